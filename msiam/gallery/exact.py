"""Exact search among any vectors, whatever index there is: a product with each of them."""

from __future__ import annotations

from collections.abc import Callable

import faiss
import numpy as np

#: Bytes of vectors in memory at once.
BLOCK = 32 << 20

Found = tuple[np.ndarray, np.ndarray]


def nearest_among(
    queries: np.ndarray,
    k: int,
    positions: np.ndarray,
    vectors: Callable[[np.ndarray], np.ndarray],
) -> Found:
    """The k nearest of some vectors, which go through memory in blocks.

    Args:
        queries: (q, dim) float32.
        positions: (n,) int64, ascending: those that may be found.
        vectors: gives those at some positions, (m, dim) float32.

    Returns:
        As ``Backend.search``.
    """
    best = nothing(len(queries), k)
    rows = max(1, BLOCK // (4 * queries.shape[1]))
    for start in range(0, len(positions), rows):
        part = positions[start : start + rows]
        scores, numbers = faiss.knn(
            queries, vectors(part), min(k, len(part)), metric=faiss.METRIC_INNER_PRODUCT
        )
        best = merged(k, [best, (scores, part[numbers])])
    return best


def nothing(queries: int, k: int) -> Found:
    """Nothing found, in the form of ``Backend.search``."""
    return np.full((queries, k), -np.inf, np.float32), np.full((queries, k), -1, np.int64)


def merged(k: int, found: list[Found]) -> Found:
    """The k best of several searches' results; equal scores in the order of positions."""
    scores = np.concatenate([scores for scores, _ in found], axis=1)
    positions = np.concatenate([positions for _, positions in found], axis=1)
    # What was not found has position −1 and must come last among scores of −inf: it does, since
    # no vector of finite numbers has that score.
    order = np.lexsort((positions, -scores))[:, :k]
    return np.take_along_axis(scores, order, 1), np.take_along_axis(positions, order, 1)
