"""N-way K-shot: of which of N classes is a query, by K examples of each (Lake et al., 2015)."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pydantic

from msiam.errors import DataError
from msiam.evaluation.calibration import Calibration
from msiam.evaluation.directions import tie
from msiam.evaluation.evaluator import Decision, Embedded, Evaluator, Result, percent
from msiam.evaluation.roc import Z95
from msiam.registry.options import Options

SHOWN = 3  # right decisions in a report, and as many wrong ones


class FewShotOptions(Options):
    """How episodes are drawn. ``within`` and ``apart`` are columns of the table."""

    way: int = pydantic.Field(5, gt=1, description="classes in an episode")
    shot: int = pydantic.Field(1, gt=0, description="examples of each class")
    episodes: int = pydantic.Field(1000, gt=1)
    within: str | None = pydantic.Field(
        None, description="all classes of an episode have one value of this column: an alphabet"
    )
    apart: str | None = pydantic.Field(
        None, description="query and examples have different values of this column: a drawer"
    )
    seed: int = 0


@dataclass(frozen=True)
class Pool:
    """Items that may meet in an episode.

    Attributes:
        classes: of each class the positions of its items, (its items,).
        apart: (all positions,) what must differ between a query and the examples.
    """

    classes: list[np.ndarray]
    apart: np.ndarray

    def episode(self, way: int, shot: int, rng: np.random.Generator) -> np.ndarray:
        """(way, 1 + shot): of each class drawn a query, and examples that all differ from it.

        The values of ``apart`` come in one random order for all classes, and an item of the first
        one that a class has is its query: where each drawer drew each character, one drawer made
        all queries, and another one all first examples.
        """
        turn = rng.permutation(self.apart.max() + 1)
        drawn = rng.choice(len(self.classes), way, replace=False)
        episode = np.empty((way, 1 + shot), np.int64)
        for place, number in enumerate(drawn):
            items = rng.permutation(self.classes[number])
            _, first = np.unique(turn[self.apart[items]], return_index=True)
            episode[place] = items[first[: 1 + shot]]
        return episode


class FewShot(Evaluator):
    """Accuracy over episodes of N classes and K examples of each, drawn from the held-out part.

    A query q is said to be of the class c whose examples x are nearest to it on average,
    argmax_c 1/K · Σ_k ⟨q, x_ck⟩; for vectors of length 1 that is the nearest prototype, but for the
    prototype's length. An episode has one query of each of its classes. A tie counts against the
    model, so that one which embeds everything alike is never right. ``accuracy`` is the mean over
    episodes, and its interval mean ± 1.96 · s / √episodes, with s the standard deviation between
    episodes: how well the episodes drawn tell what all of this held-out part would, not what other
    classes would.

    Items are those of the first column, and classes those of the data. With ``within``, values that
    have fewer than N classes are left out, and the others have equally many episodes.

    Paper: Lake, Salakhutdinov and Tenenbaum, Human-level concept learning through probabilistic
    program induction, 2015 (within an alphabet, by another drawer); Vinyals et al., Matching
    Networks for One Shot Learning, 2016 (N-way K-shot).
    """

    Options: ClassVar[type[Options]] = FewShotOptions
    primary: ClassVar[str] = "accuracy"

    @property
    def reads(self) -> Collection[str]:
        return [column for column in (self.options.within, self.options.apart) if column]

    def evaluate(self, embedded: Embedded, calibration: Calibration | None) -> Result:
        """See the class.

        Raises:
            DataError: the data has no classes, or too few with enough items for an episode.
        """
        way, shot = self.options.way, self.options.shot
        if not embedded.examples.classed:
            raise DataError("few_shot needs the class of each item: set data.classes")
        column = next(iter(embedded.examples.columns))
        numbers, rows = np.unique(embedded.examples.columns[column], return_index=True)
        found = list(self._pools(embedded, column, rows))
        pools = [pool for pool in found if len(pool.classes) >= way]
        if not pools:
            most = max(len(pool.classes) for pool in found)
            what = f"of one '{self.options.within}' " if self.options.within else ""
            kind = f"of different '{self.options.apart}' " if self.options.apart else ""
            raise DataError(
                f"few_shot: an episode takes {way} classes {what}with {1 + shot} items {kind}each; "
                f"of '{column}' there are {most} here at most: set a smaller evaluate.way or "
                "evaluate.shot, or hold more out"
            )
        rng = np.random.default_rng(self.options.seed)
        vectors = embedded.of(column)[numbers]
        shares = np.empty(self.options.episodes)
        right: list[Decision] = []
        wrong: list[Decision] = []
        for number in range(self.options.episodes):
            episode = pools[number % len(pools)].episode(way, shot, rng)
            scores = vectors[episode[:, 0]] @ vectors[episode[:, 1:]].mean(axis=1).T
            correct = decided(scores)
            shares[number] = correct.mean()
            for said, where in ((right, correct), (wrong, ~correct)):
                if len(said) < SHOWN and where.any():
                    query = int(rng.choice(np.flatnonzero(where)))
                    said.append(_decision(column, numbers[episode], scores, query))
        metrics = self._metrics(shares)
        headline = self._headline(metrics, len(found) - len(pools), len(found))
        return Result(metrics, headline=headline, decisions=wrong + right)

    def _pools(self, embedded: Embedded, column: str, rows: np.ndarray) -> Iterator[Pool]:
        """The items at ``rows`` by the value of ``within``, with the classes that suffice."""
        examples, within, apart = embedded.examples, self.options.within, self.options.apart
        values = examples.attributes[within][rows] if within else np.zeros(len(rows), np.int64)
        differ = examples.attributes[apart][rows] if apart else np.arange(len(rows))
        groups = examples.groups[column][rows]
        for value in np.unique(values):
            inside = np.flatnonzero(values == value)
            inside = inside[np.argsort(groups[inside], kind="stable")]
            classes = np.split(inside, np.flatnonzero(np.diff(groups[inside])) + 1)
            enough = [c for c in classes if len(np.unique(differ[c])) > self.options.shot]
            yield Pool(enough, differ)

    def _metrics(self, shares: np.ndarray) -> dict[str, float]:
        mean = float(shares.mean())
        spread = float(Z95 * shares.std(ddof=1) / np.sqrt(len(shares)))
        return {
            "episodes": len(shares),
            "accuracy": mean,
            "accuracy/low": max(0.0, mean - spread),
            "accuracy/high": min(1.0, mean + spread),
            "chance/accuracy": 1 / self.options.way,
        }

    def _headline(self, metrics: dict[str, float], left_out: int, values: int) -> str:
        options = self.options
        examples = "one example" if options.shot == 1 else f"{options.shot} examples"
        within = f" of one {options.within}" if options.within else ""
        apart = f" by another {options.apart}" if options.apart else ""
        sentence = (
            f"By {examples} of each of {options.way} classes{within}{apart}, the right class is "
            f"chosen in {percent(metrics['accuracy'])} of cases; by chance, in "
            f"{percent(metrics['chance/accuracy'])}."
        )
        if left_out:
            sentence += (
                f" {left_out} of {values} values of {options.within}, with fewer than "
                f"{options.way} classes, were left out."
            )
        return sentence


def decided(scores: np.ndarray) -> np.ndarray:
    """Which queries, of scores (queries, classes), have their own class above all others, bool."""
    own = scores.diagonal()
    ahead = scores >= (own - tie(own))[:, None]
    np.fill_diagonal(ahead, False)
    return ~ahead.any(axis=1)


def _decision(column: str, episode: np.ndarray, scores: np.ndarray, query: int) -> Decision:
    return Decision(
        column,
        int(episode[query, 0]),
        episode[:, 1:].tolist(),
        scores[query].tolist(),
        query,
    )
