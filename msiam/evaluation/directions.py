"""A search from one column into another: the queries, the gallery, and what is relevant."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from msiam.evaluation.evaluator import Embedded

MANY = 4  # directions; of more, a headline names two, and one drawing shows all
TIE = np.float32(1e-6)  # the rounding of an inner product; scores as near as this count as equal


@dataclass(frozen=True)
class Direction:
    """Each query is compared with the distinct items of the gallery's column.

    An item is relevant to a query of its own group. The gallery is sorted by group, so that what
    is relevant to a query is one stretch of it. Where both columns share a tower, the query's own
    item may stand in the gallery; it is then left out for that query.

    Attributes:
        query, gallery: the columns.
        queries: (q,) distinct item numbers, each with something relevant in the gallery.
        weights: (q,) how many rows have that query.
        examples: (q,) the first of those rows.
        items: (m,) distinct item numbers of the gallery.
        start, stop: (q,) the stretch of ``items`` of the query's group.
        own: (q,) where in ``items`` the query itself is; -1 where it is not.
    """

    query: str
    gallery: str
    queries: np.ndarray
    weights: np.ndarray
    examples: np.ndarray
    items: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    own: np.ndarray

    @property
    def name(self) -> str:
        return f"{self.query}_to_{self.gallery}"

    @property
    def relevant(self) -> np.ndarray:
        """(q,): how many items are relevant to each query."""
        return self.stop - self.start - (self.own >= 0)

    @property
    def candidates(self) -> np.ndarray:
        """(q,): how many items each query is compared with."""
        return len(self.items) - (self.own >= 0)

    def scores(self, embedded: Embedded, index: np.ndarray) -> np.ndarray:
        """The scores (len(index), m) of some queries with all items; -inf for the query itself."""
        found = (
            embedded.of(self.query)[self.queries[index]] @ embedded.of(self.gallery)[self.items].T
        )
        return self._without_own(found, index)

    def best(self, scores: np.ndarray, q: int) -> tuple[int, int]:
        """Of one query's scores (m,): where the best relevant item is, and its rank from 1.

        All items of equal score that are not relevant rank above it.
        """
        right = int(self.start[q] + scores[self.start[q] : self.stop[q]].argmax())
        ahead = scores >= scores[right] - tie(scores[right])
        ahead[self.start[q] : self.stop[q]] = False
        return right, 1 + int(ahead.sum())

    def blocks(self, embedded: Embedded, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """All queries in blocks of ``size``: their positions, and their scores (block, m)."""
        gallery = np.ascontiguousarray(embedded.of(self.gallery)[self.items].T)
        for first in range(0, len(self.queries), size):
            index = np.arange(first, min(first + size, len(self.queries)))
            scores = embedded.of(self.query)[self.queries[index]] @ gallery
            yield index, self._without_own(scores, index)

    def _without_own(self, scores: np.ndarray, index: np.ndarray) -> np.ndarray:
        own = self.own[index]
        scores[np.flatnonzero(own >= 0), own[own >= 0]] = -np.inf
        return scores


def tie(scores: np.ndarray) -> np.ndarray:
    """How far below each score another one still counts as equal to it."""
    return TIE * np.maximum(1, np.abs(scores))


def directions(embedded: Embedded) -> list[Direction]:
    """The first column with each other one, both ways, where they have anything in common.

    A single column is searched with its own items. A row is a query if its two items belong
    together: it is labelled the same (or no row is labelled) and they are of one group. So a
    triplet's negative is no query. Where there are classes, every row is one.
    """
    first, *others = embedded.examples.columns
    both = [pair for other in others for pair in ((first, other), (other, first))]
    found = [between(embedded, query, gallery) for query, gallery in both or [(first, first)]]
    return [direction for direction in found if len(direction.queries)]


def between(embedded: Embedded, query: str, gallery: str) -> Direction:
    """The search from one column into another one, or into itself."""
    examples = embedded.examples
    items, where = np.unique(examples.columns[gallery], return_index=True)
    groups = examples.groups[gallery][where]
    order = np.argsort(groups, kind="stable")
    items, groups = items[order], groups[order]

    together = examples.groups[query] == examples.groups[gallery]
    if examples.classed:
        together[:] = True
    elif examples.same is not None:
        together &= examples.same
    rows = np.flatnonzero(together)
    queries, first, weights = np.unique(
        examples.columns[query][rows], return_index=True, return_counts=True
    )
    of = examples.groups[query][rows[first]]
    start, stop = (
        np.searchsorted(groups, of, side="left"),
        np.searchsorted(groups, of, side="right"),
    )
    own = np.full(len(queries), -1)
    if embedded.towers[query] == embedded.towers[gallery]:
        by_number = np.argsort(items)
        place = np.searchsorted(items[by_number], queries).clip(0, len(items) - 1)
        there = items[by_number[place]] == queries
        own[there] = by_number[place[there]]

    keep = stop - start - (own >= 0) > 0
    return Direction(
        query,
        gallery,
        queries[keep],
        weights[keep],
        rows[first][keep],
        items,
        start[keep],
        stop[keep],
        own[keep],
    )
