"""Pairs to compare, same and different, whatever the examples are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from msiam.errors import DataError
from msiam.evaluation.evaluator import Embedded


@dataclass(frozen=True)
class Pairs:
    """Pairs of items from two columns.

    Attributes:
        columns: the two columns.
        items: for each of them, (n,) item numbers.
        examples: (n,) which example each pair is of.
        same: (n,) bool.
    """

    columns: tuple[str, str]
    items: tuple[np.ndarray, np.ndarray]
    examples: np.ndarray
    same: np.ndarray

    def scores(self, embedded: Embedded) -> np.ndarray:
        """(n,) float64: the similarity of each pair."""
        left, right = (embedded.of(c)[i] for c, i in zip(self.columns, self.items, strict=True))
        return np.einsum("nd,nd->n", left, right, dtype=np.float64)


def find_pairs(embedded: Embedded, seed: int = 0) -> list[Pairs]:
    """The pairs of the first two columns, and pairs that are known or taken to be different.

    Labelled pairs are taken as they are. Where every row is a positive, each anchor (first column)
    is also paired with the row's third column, if there is one and it does not belong to the
    anchor's group (triplets). Otherwise it is paired with a random item of the second column,
    never one of its own group; an anchor for which all items are of its group has no such pair.

    Raises:
        DataError: there is only one column.
    """
    examples = embedded.examples
    if len(examples.columns) < 2:
        raise DataError(f"pairs need two columns; there is only '{next(iter(examples.columns))}'")
    anchor, positive, *others = examples.columns
    every = np.arange(len(examples))

    def make(column: str, rows: np.ndarray, partners: np.ndarray, same: np.ndarray) -> Pairs:
        items = examples.columns[anchor][rows], examples.columns[column][partners]
        return Pairs((anchor, column), items, rows, same)

    if examples.same is not None:
        return [make(positive, every, every, examples.same)]
    found = [make(positive, every, every, np.ones(len(every), dtype=bool))]
    for column in others[:1]:
        apart = np.flatnonzero(examples.groups[anchor] != examples.groups[column])
        if len(apart):
            return [*found, make(column, apart, apart, np.zeros(len(apart), dtype=bool))]
    rows, partners = _strangers(examples.groups[anchor], examples.groups[positive], seed)
    return [*found, make(positive, rows, partners, np.zeros(len(rows), dtype=bool))]


def _strangers(anchors: np.ndarray, others: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """For each anchor's group (n,), a random position in ``others`` (n,) of another group."""
    order = np.argsort(others, kind="stable")
    start = np.searchsorted(others[order], anchors, side="left")
    stop = np.searchsorted(others[order], anchors, side="right")
    allowed = len(others) - (stop - start)
    rows = np.flatnonzero(allowed)
    drawn = np.random.default_rng(seed).integers(allowed[rows])
    # Its own group is one stretch of the sorted positions: step over it.
    drawn += np.where(drawn >= start[rows], stop[rows] - start[rows], 0)
    return rows, order[drawn]


def pair_scores(embedded: Embedded, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The scores (n,) float64 and labels (n,) bool of ``find_pairs``."""
    found = find_pairs(embedded, seed)
    scores = np.concatenate([pairs.scores(embedded) for pairs in found])
    return scores, np.concatenate([pairs.same for pairs in found])
