"""Nearest neighbours: what an item is, by what those nearest to it are (Wu et al., 2018)."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import ClassVar

import numpy as np
import pydantic
import torch

from msiam.errors import DataError
from msiam.evaluation.calibration import Calibration
from msiam.evaluation.evaluator import Decision, Embedded, Evaluator, Result, percent
from msiam.evaluation.roc import wilson_interval
from msiam.registry.options import Options
from msiam.towers.embedding import embed_features
from msiam.towers.encoding import device_of
from msiam.towers.tower import Tower

BLOCK = 512  # queries at a time
SHOWN = 3  # items in a report that were judged rightly, and as many that were not
EXAMPLES = 4  # neighbours of one value that it shows


class KNNOptions(Options):
    """By which column of the table, and how many neighbours."""

    by: str = pydantic.Field(description="the table's column that says what an item is")
    k: int = pydantic.Field(20, gt=0, description="neighbours that vote")
    temperature: float = pydantic.Field(
        0.07, gt=0, description="the smaller, the more do the nearest of them count"
    )
    baselines: bool = pydantic.Field(
        True, description="the same by the same tower untrained, and by what it is given, as raw"
    )


class KNN(Evaluator):
    """The share of items whose nearest neighbours say rightly what they are.

    Items are those of the first column. Of an item q the k nearest others x of the held-out part
    vote for their value of the column ``by``, with weights exp(⟨q, x⟩ / temperature); the value
    with most weight is what q is said to be. Nothing learns from these values here, so that a model
    may be asked that has never seen any. ``chance/accuracy`` is reached by always saying the
    commonest.

    Beside it stand ``untrained/accuracy``, by the same tower with new random weights, and
    ``raw/accuracy``, by the cosine of what its encoder was given (of pictures, the pixels) less the
    mean over all, where every item is given as equally many numbers. They are measured where a
    calibration is, at the end.

    Paper: Wu, Xiong, Yu and Lin, Unsupervised Feature Learning via Non-Parametric Instance
    Discrimination, CVPR 2018, where the neighbours are training items.
    """

    Options: ClassVar[type[Options]] = KNNOptions
    primary: ClassVar[str] = "accuracy"

    @property
    def reads(self) -> Collection[str]:
        return [self.options.by]

    def evaluate(self, embedded: Embedded, calibration: Calibration | None) -> Result:
        """See the class.

        Raises:
            DataError: there are less than two items.
        """
        column = next(iter(embedded.examples.columns))
        numbers, rows = np.unique(embedded.examples.columns[column], return_index=True)
        values = embedded.examples.attributes[self.options.by][rows]
        if len(numbers) < 2:
            raise DataError(f"knn needs two items to compare; '{column}' has {len(numbers)} here")
        metrics = {"items": float(len(numbers)), "classes": float(len(np.unique(values)))}
        metrics |= self._figures("accuracy", embedded.of(column)[numbers], values)
        metrics["chance/accuracy"] = float(np.bincount(values).max() / len(values))
        if self.options.baselines and calibration is not None:
            for name, vectors in _baselines(embedded, column, numbers).items():
                metrics |= self._figures(f"{name}/accuracy", vectors, values)
        shown = [] if calibration is None else self._shown(column, embedded, numbers, values)
        return Result(metrics, headline=self._headline(column, metrics), decisions=shown)

    def _shown(
        self, column: str, embedded: Embedded, numbers: np.ndarray, values: np.ndarray
    ) -> list[Decision]:
        """A few items with the neighbours that voted, by value: wrong ones, and then right ones.

        Of the wrong ones, those for whose value any neighbour was.
        """
        k, vectors = min(self.options.k, len(numbers) - 1), embedded.of(column)[numbers]
        found: dict[bool, list[Decision]] = {False: [], True: []}
        for query in np.random.default_rng(0).permutation(len(numbers)).tolist():
            if min(map(len, found.values())) == SHOWN:
                break
            nearest, weights = neighbours(vectors, np.array([query]), k, self.options.temperature)
            shares = np.bincount(values[nearest[0]], weights[0] / weights.sum())
            order = [int(value) for value in np.argsort(-shares, kind="stable") if shares[value]]
            right = order[0] == values[query]
            if values[query] in order and len(found[right]) < SHOWN:
                by_weight = nearest[0][np.argsort(-weights[0])]
                voters = [by_weight[values[by_weight] == value][:EXAMPLES] for value in order]
                found[right].append(
                    Decision(
                        column,
                        int(numbers[query]),
                        [numbers[items].tolist() for items in voters],
                        [float(shares[value]) for value in order],
                        order.index(values[query]),
                    )
                )
        return found[False] + found[True]

    def _figures(self, name: str, vectors: np.ndarray, values: np.ndarray) -> dict[str, float]:
        said = votes(vectors, values, self.options.k, self.options.temperature)
        share = float((said == values).mean())
        low, high = wilson_interval(share, len(values))
        return {name: share, f"{name}/low": low, f"{name}/high": high}

    def _headline(self, column: str, metrics: dict[str, float]) -> str:
        others = {
            "the commonest of all": "chance/accuracy",
            "raw inputs": "raw/accuracy",
            "the same tower untrained": "untrained/accuracy",
        }
        there = {who: metrics[key] for who, key in others.items() if key in metrics}
        beside = [f"{who}, {percent(share)}" for who, share in there.items()]
        return (
            f"By its {self.options.k} nearest neighbours, the {self.options.by} of {column} is "
            f"said rightly in {percent(metrics['accuracy'])} of {metrics['items']:,.0f} cases; by "
            f"{'; by '.join(beside)}."
        )


def votes(vectors: np.ndarray, values: np.ndarray, k: int, temperature: float) -> np.ndarray:
    """(n,): for each of n vectors (n, D) the value for which its k nearest others vote.

    Of values (n,), integers from 0. Of equal weights the smallest value wins.
    """
    n = len(vectors)
    k = min(k, n - 1)
    said = np.empty(n, values.dtype)
    for start in range(0, n, BLOCK):
        queries = np.arange(start, min(start + BLOCK, n))
        nearest, weights = neighbours(vectors, queries, k, temperature)
        ballot = np.zeros((len(queries), int(values.max()) + 1))
        np.add.at(ballot, (np.arange(len(queries))[:, None], values[nearest]), weights)
        said[queries] = ballot.argmax(axis=1)
    return said


def neighbours(
    vectors: np.ndarray, queries: np.ndarray, k: int, temperature: float
) -> tuple[np.ndarray, np.ndarray]:
    """(m, k) each, in no order: the k nearest others of m of the vectors, and what they weigh."""
    scores = vectors[queries] @ vectors.T
    scores[np.arange(len(queries)), queries] = -np.inf
    nearest = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    near = np.take_along_axis(scores, nearest, axis=1).astype(np.float64)
    return nearest, np.exp((near - near.max(axis=1, keepdims=True)) / temperature)


def _baselines(embedded: Embedded, column: str, numbers: np.ndarray) -> dict[str, np.ndarray]:
    """Other vectors of the same items, (n, D) of length 1, by what makes them."""
    found: dict[str, np.ndarray] = {}
    tower = embedded.towers[column]
    features = [embedded.features[tower][n] for n in numbers] if tower in embedded.features else []
    if features and len({feature.shape for feature in features}) == 1:
        raw = np.stack([feature.ravel() for feature in features]).astype(np.float32)
        raw -= raw.mean(axis=0)
        found["raw"] = raw / np.maximum(np.linalg.norm(raw, axis=1, keepdims=True), 1e-12)
    if features and embedded.model is not None:
        found["untrained"] = embed_features(untrained(embedded.model.tower(tower)), features)
    return found


def untrained(tower: Tower, seed: int = 0) -> Tower:
    """The same tower with new random weights, as its layers draw them."""
    new = copy.deepcopy(tower)
    with torch.random.fork_rng(), tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(seed)
        tower.encoder.save(Path(folder))  # the vocabulary, if there is one; not the weights
        new.restore(Path(folder))
    return new.to(device_of(tower)).eval()
