"""Find the partner: how high the right item stands among all items of the other column."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import pydantic

from msiam.errors import DataError
from msiam.evaluation.calibration import Calibration
from msiam.evaluation.directions import MANY, Direction, directions, tie
from msiam.evaluation.evaluator import Embedded, Evaluator, Result, percent
from msiam.evaluation.roc import wilson_interval
from msiam.registry.options import Options

BLOCK_BYTES = 16 * 2**20  # of scores at a time
NDCG_DEPTH = 10


class RetrievalOptions(Options):
    """``ks``: at which depths recall is given."""

    ks: Annotated[tuple[pydantic.PositiveInt, ...], pydantic.Field(min_length=1)] = (1, 5, 10)


@dataclass(frozen=True)
class Ranks:
    """What the ranking of each of q distinct queries came to, each array (q,)."""

    first: np.ndarray  # the rank of the first relevant item, from 1
    average_precision: np.ndarray
    precision_at_r: np.ndarray  # the mean precision over the first r, r the relevant items
    ndcg: np.ndarray  # at NDCG_DEPTH, gain 1 for a relevant item


class Retrieval(Evaluator):
    """recall@k, MRR, nDCG@10, MAP, MAP@R and median rank, from the first column and back.

    Of a single column each item is searched for among the others; items of its class are relevant.
    MAP@R (Musgrave et al., A Metric Learning Reality Check, 2020) is, for a query with R relevant
    items, 1/R · Σ_{i ≤ R} P(i) over the ranks i of relevant ones, with P(i) the precision there.

    recall@k is the share of queries with a relevant item among the first k (hit rate). The queries
    are the rows (a query that occurs in several rows counts as often), the gallery is the other
    column's distinct items, and ``Direction`` says what is relevant. A tie counts against the
    model: a relevant item ranks below all others of equal score, so that a model which embeds
    everything alike finds nothing. ``map`` without a direction is the mean over the directions,
    and what training watches: of a single relevant item it is MRR, and of a class it asks for all.
    """

    Options: ClassVar[type[Options]] = RetrievalOptions
    primary: ClassVar[str] = "map"

    def evaluate(self, embedded: Embedded, calibration: Calibration | None) -> Result:
        found = directions(embedded)
        if not found:
            raise DataError(
                f"retrieval needs rows whose items belong together; none of the "
                f"{len(embedded.examples)} rows pairs two different items of "
                f"{' and '.join(embedded.examples.columns)} that are the same"
            )
        metrics: dict[str, float] = {}
        curves: dict[str, Any] = {}
        sentences: dict[str, str] = {}
        ks = self.options.ks
        for direction in found:
            figures = self._measure(direction, rank(direction, embedded))
            metrics |= {f"{direction.name}/{name}": float(v) for name, v in figures.items()}
            curves[f"{direction.query} → {direction.gallery}"] = self._bars(figures)
            right = "one of the same class," if embedded.examples.classed else "the right one"
            sentence = _sentence(direction, right, figures, sorted({min(ks), max(ks)}))
            sentences[direction.name] = sentence
        both = float(np.mean([metrics[f"{direction.name}/map"] for direction in found]))
        headline = " ".join(sentences.values())
        if len(found) > MANY:
            by_recall = sorted(sentences, key=lambda name: metrics[f"{name}/recall@{min(ks)}"])
            headline = (
                f"Of {len(found)} directions, the strongest and the weakest: "
                f"{sentences[by_recall[-1]]} {sentences[by_recall[0]]}"
            )
        return Result({"map": both, **metrics}, {"recall": curves}, headline)

    def _measure(self, direction: Direction, ranks: Ranks) -> dict[str, float]:
        weights = direction.weights
        figures = {
            "queries": weights.sum(),
            "gallery": len(direction.items),
            "mrr": np.average(1 / ranks.first, weights=weights),
            f"ndcg@{NDCG_DEPTH}": np.average(ranks.ndcg, weights=weights),
            "map": np.average(ranks.average_precision, weights=weights),
            "map@r": np.average(ranks.precision_at_r, weights=weights),
            "median_rank": np.median(np.repeat(ranks.first, weights)),
        }
        for k in sorted(self.options.ks):
            recall = np.average(ranks.first <= k, weights=weights)
            # The same query asked twice tells nothing new, so the interval counts distinct ones.
            low, high = wilson_interval(recall, len(weights))
            chance = np.average(
                chance_of_hit(direction.relevant, direction.candidates, k), weights=weights
            )
            figures |= {
                f"recall@{k}": recall,
                f"recall@{k}/low": low,
                f"recall@{k}/high": high,
                f"chance/recall@{k}": chance,
            }
        return figures

    def _bars(self, figures: dict[str, float]) -> dict[str, list[float]]:
        ks = sorted(self.options.ks)
        columns = {
            "recall": "recall@{}",
            "low": "recall@{}/low",
            "high": "recall@{}/high",
            "chance": "chance/recall@{}",
        }
        bars = {n: [float(figures[key.format(k)]) for k in ks] for n, key in columns.items()}
        return {"k": [float(k) for k in ks], **bars}


def rank(direction: Direction, embedded: Embedded, block: int | None = None) -> Ranks:
    """Rank every query's relevant items; at most ``block`` queries' scores are held at a time."""
    size = block or max(1, BLOCK_BYTES // (4 * len(direction.items)))
    ranks = Ranks(*np.empty((4, len(direction.queries))))
    for index, scores in direction.blocks(embedded, size):
        right = [
            scores[i, direction.start[q] : direction.stop[q]].copy() for i, q in enumerate(index)
        ]
        for i, q in enumerate(index):
            scores[i, direction.start[q] : direction.stop[q]] = -np.inf
        scores.sort(axis=1)
        for i, q in enumerate(index):
            # The query itself, at -inf, comes last and is cut off.
            relevant = np.sort(right[i])[::-1][: direction.relevant[q]]
            ahead = scores.shape[1] - np.searchsorted(scores[i], relevant - tie(relevant))
            places = np.arange(1, len(relevant) + 1)
            standing = places + ahead
            ranks.first[q] = standing[0]
            ranks.average_precision[q] = (places / standing).mean()
            within = standing <= len(relevant)
            ranks.precision_at_r[q] = (places / standing)[within].sum() / len(relevant)
            ranks.ndcg[q] = _gain(standing) / _gain(places)
    return ranks


def _gain(ranks: np.ndarray) -> float:
    """The discounted cumulative gain of relevant items at these ranks."""
    return float((1 / np.log2(1 + ranks[ranks <= NDCG_DEPTH])).sum())


def chance_of_hit(relevant: np.ndarray, candidates: np.ndarray, k: int) -> np.ndarray:
    """(q,): how probable it is that a random ranking has a relevant item among the first k.

    Exact: one minus the share of k-sets without any of them, C(m - r, k) / C(m, k).
    """
    miss = np.ones(len(relevant))
    for taken in range(k):
        left = np.maximum(candidates - taken, 1)
        miss *= np.maximum(candidates - relevant - taken, 0) / left
    return 1 - miss


def _sentence(direction: Direction, right: str, figures: dict[str, float], ks: list[int]) -> str:
    depths = ["first" if k == 1 else f"among the first {k}" for k in ks]
    shares = [percent(figures[f"recall@{k}"]) for k in ks]
    shares[0] += " of searches"
    found = " and ".join(f"{depth} in {share}" for depth, share in zip(depths, shares, strict=True))
    chance = " and ".join(percent(figures[f"chance/recall@{k}"]) for k in ks)
    among = f"{figures['gallery']:,.0f}" + ("," if right.endswith(",") else "")
    return (
        f"From {direction.query} to {direction.gallery}, {right} of {among} comes {found}; by "
        f"chance, in {chance}."
    )
