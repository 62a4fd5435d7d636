"""What an index finds of the exact neighbours of held-out queries, how fast, and in how much."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from msiam.gallery.faiss_backend import FaissBackend
from msiam.gallery.faiss_options import FaissOptions
from msiam.gallery.tuning_candidates import Candidate

#: One-sided 99 % of a normal distribution.
Z = 2.326
#: How much less than the k-th true score one may be that counts: float32 is rounded differently
#: by different kernels, and of equal scores any is right.
ROUNDING = 2e-6
#: Seconds for the latency of single queries, and how many at most.
SINGLE, SINGLES = 2.0, 200
#: The most vectors scored again, as times k.
FACTORS = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Measured:
    """An index with its search parameters, and what was measured of them.

    Attributes:
        options: of the backend.
        recall: how many of the k nearest are found, on average over the queries.
        low: a lower bound of the recall on other queries like these, at 99 % confidence.
        batch, single: seconds for a query, of many at once and of one alone.
        memory: bytes that searching needs: all but the whole vectors that only refining looks at,
            which it reads from the mapped file.
        disk: bytes of the file.
        build: seconds.
    """

    options: FaissOptions
    recall: float
    low: float
    batch: float
    single: float
    memory: int
    disk: int
    build: float


@dataclass(frozen=True)
class Truth:
    """Queries, (q, dim), and the score of the k-th of each one's true neighbours, (q,)."""

    queries: np.ndarray
    kth: np.ndarray
    k: int

    def recalls(self, scores: np.ndarray) -> np.ndarray:
        """The share of each query's k nearest that a search found, by its scores (q, k)."""
        slack = ROUNDING * np.maximum(1, np.abs(self.kth))
        return (scores >= (self.kth - slack)[:, None]).mean(axis=1)


def lower_bound(recalls: np.ndarray) -> float:
    """What the mean recall of other such queries exceeds, at 99 % confidence.

    By the normal distribution of means; less 1 / q, since q queries of which none misses anything
    do not say that none ever will.
    """
    count = len(recalls)
    spread = float(recalls.std(ddof=1)) / math.sqrt(count) if count > 1 else 1.0
    return max(0.0, float(recalls.mean()) - Z * spread - 1 / count)


def measure(
    candidate: Candidate, vectors: Iterable[np.ndarray], truth: Truth, target: float, place: Path
) -> Iterator[Measured]:
    """Build an index, and search it less and more deeply, about as deeply as the target takes.

    Args:
        vectors: in chunks; gone through twice.
        place: where its file may go, which is what is searched, mapped as a gallery's is.
    """
    dim = truth.queries.shape[1]
    start = time.perf_counter()
    FaissBackend.build(vectors, dim, candidate.options()).save(place)
    build = time.perf_counter() - start
    index = FaissBackend.open(place, candidate.options())
    disk = place.stat().st_size
    memory = disk - len(index) * dim * 4 if candidate.refines else disk
    seen: dict[tuple[int | None, int | None], Measured] = {}

    def at(depth: int | None, factor: int | None = None) -> Measured:
        if (depth, factor) not in seen:
            options = candidate.options(depth, factor)
            index.tell(options)
            recalls, batch = _searched(index, truth)
            seen[depth, factor] = Measured(
                options, float(recalls.mean()), 1.0 if index.exact else lower_bound(recalls),
                batch, _single(index, truth), memory, disk, build,
            )  # fmt: skip
        return seen[depth, factor]

    def enough(depth: int, factor: int | None = None) -> bool:
        return at(depth, factor).low >= target

    if candidate.depth is None:
        at(None)
    else:
        _, least, most = candidate.depth
        deepest = FACTORS[-1] if candidate.refines else None
        depth = _least(least, most, lambda d: enough(d, deepest))
        # Deeper, fewer need to be scored again; and the frontier is seen to go on.
        factors: Sequence[int | None] = FACTORS if candidate.refines else (None,)
        for d in {depth, min(most, 2 * depth)}:
            for factor in factors:
                if enough(d, factor):
                    break
    yield from seen.values()


def _least(least: int, most: int, enough: Any) -> int:
    """About the least depth that is enough: to a quarter; the most where none is."""
    low, high = 0, least
    while not enough(high):
        if high == most:
            return most
        low, high = high, min(most, 2 * high)
    while high - low > max(1, high // 4):
        middle = (low + high) // 2
        low, high = (low, middle) if middle >= least and enough(middle) else (middle, high)
    return high


def _searched(index: FaissBackend, truth: Truth) -> tuple[np.ndarray, float]:
    """The recall of each query, and the seconds a query of all of them at once: the best of up to
    three times, of which a short one may be disturbed."""
    times: list[float] = []
    while len(times) < 3 and sum(times) < 1:
        start = time.perf_counter()
        scores, _ = index.search(truth.queries, truth.k)
        times.append(time.perf_counter() - start)
    return truth.recalls(scores), min(times) / len(truth.queries)


def _single(index: FaissBackend, truth: Truth) -> float:
    """The median of seconds that a query alone takes."""
    times: list[float] = []
    for query in truth.queries[:SINGLES]:
        start = time.perf_counter()
        index.search(query[None], truth.k)
        times.append(time.perf_counter() - start)
        if sum(times) > SINGLE:
            break
    return float(np.median(times))
