"""Which of the nearest records are hits: near enough, not excluded, the best of their group."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

#: Scores in memory at once, of as many queries as fit.
MOST = 1 << 22
#: Scores and positions, (q, k), of the k nearest of q queries: as ``Backend.search``.
Nearest = Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Rules:
    """Which records may be hits.

    Attributes:
        threshold: those with this score at least.
        groups: (n,) int64: of the records that share a number, the best one.
        excluded: for each query, the positions of those that may not.
    """

    threshold: float = -np.inf
    groups: np.ndarray | None = None
    excluded: Sequence[np.ndarray] | None = None

    def of(self, queries: np.ndarray) -> Rules:
        """Those of some of the queries, (q,) bool."""
        if self.excluded is None:
            return self
        return replace(self, excluded=[self.excluded[n] for n in np.flatnonzero(queries).tolist()])


def ranked(
    queries: np.ndarray, k: int, available: int, rules: Rules, nearest: Nearest
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The k nearest records that may be hits.

    More and more of the nearest are looked at, until there are k that may, or no more.

    Args:
        queries: (q, dim).
        available: how many records there are to be found.
        nearest: finds the nearest ones, by no rules.

    Returns:
        Scores and positions, as ``Backend.search``; and (q,) bool: for which queries there are
        fewer than k though ``nearest`` did not give all that are available.
    """
    scores = np.full((len(queries), k), -np.inf, np.float32)
    positions = np.full((len(queries), k), -1, np.int64)
    short = np.zeros(len(queries), bool)
    excluded = _padded(rules.excluded, len(queries))
    asked = np.arange(len(queries))
    size = min(available, k + excluded.shape[1])
    while len(asked) and size:
        unfinished = []
        rows = max(1, MOST // size)
        for start in range(0, len(asked), rows):
            part = asked[start : start + rows]
            found, places = nearest(queries[part], size)
            may = _may(found, places, rules, excluded[part])
            order = np.argsort(~may, axis=1, kind="stable")[:, :k]
            width, there = order.shape[1], np.take_along_axis(may, order, 1)
            best, at = (np.take_along_axis(values, order, 1) for values in (found, places))
            scores[part, :width] = np.where(there, best, -np.inf)
            positions[part, :width] = np.where(there, at, -1)
            fewer = may.sum(axis=1) < k
            ended = places[:, -1] < 0  # it has no more to give
            short[part] = fewer & ended
            unfinished.append(part[fewer & ~ended & (found[:, -1] >= rules.threshold)])
        asked = np.concatenate(unfinished)
        if size == available:
            break
        size = min(available, 4 * size)
    return scores, positions, short


def _may(
    scores: np.ndarray, positions: np.ndarray, rules: Rules, excluded: np.ndarray
) -> np.ndarray:
    """Which of the nearest may be hits, (q, size) bool."""
    may = (positions >= 0) & (scores >= rules.threshold)
    for column in excluded.T:
        may &= positions != column[:, None]
    if rules.groups is None:
        return may
    # What is no hit itself is the best of a group of its own.
    alone = np.iinfo(np.int64).min + np.arange(positions.shape[1])
    return may & _first(np.where(may, rules.groups[positions], alone))


def _first(numbers: np.ndarray) -> np.ndarray:
    """Where each number stands for the first time in its row, (q, n) bool."""
    order = np.argsort(numbers, axis=1, kind="stable")
    ordered = np.take_along_axis(numbers, order, 1)
    new = np.ones(numbers.shape, bool)
    new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    first = np.empty(numbers.shape, bool)
    np.put_along_axis(first, order, new, 1)
    return first


def _padded(excluded: Sequence[np.ndarray] | None, queries: int) -> np.ndarray:
    """The positions of each query, (q, most), filled up with −1."""
    if excluded is None:
        return np.empty((queries, 0), np.int64)
    padded = np.full((queries, max(map(len, excluded), default=0)), -1, np.int64)
    for row, positions in zip(padded, excluded, strict=True):
        row[: len(positions)] = positions
    return padded
