"""Chooses a gallery's index by measuring candidates on its own vectors.

What is fastest depends on the vectors, their number, the batch and the machine: a flat index beats
a graph on batches of a hundred thousand vectors, and loses to it on single queries.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from msiam.errors import GalleryError
from msiam.gallery.tuning_candidates import candidates
from msiam.gallery.tuning_measure import Measured, Truth, measure
from msiam.paths import room_on_disk

if TYPE_CHECKING:
    from msiam.gallery.gallery import Gallery

#: Queries that are measured with; and of a gallery's own vectors, one in so many at most.
QUERIES, SHARE = 2000, 10
#: Records, below which nothing can be measured, and nothing is faster than going through all.
FEWEST = 100


@dataclass(frozen=True)
class Wanted:
    """What an index must reach.

    Attributes:
        recall: of the k nearest, on other queries than those that are measured with.
        memory: bytes at most; None: any.
        latency: seconds of a single query at most; None: any.
        batch: choose the one that is fastest on many queries at once, not on single ones.
    """

    recall: float
    k: int = 10
    memory: int | None = None
    latency: float | None = None
    batch: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.recall <= 1:
            raise GalleryError(f"recall: found {self.recall}; give a share, as 0.95")
        for name in ("memory", "latency"):
            limit = getattr(self, name)
            if limit is not None and not limit > 0:
                raise GalleryError(f"{name}: found {limit}; it must be more than 0")

    def met(self, found: Measured) -> bool:
        """Whether an index does all of it, its recall by the lower bound."""
        return (
            found.low >= self.recall
            and (self.memory is None or found.memory <= self.memory)
            and (self.latency is None or found.single <= self.latency)
        )

    def time(self, found: Measured) -> float:
        return found.batch if self.batch else found.single


def best(found: list[Measured], wanted: Wanted) -> Measured | None:
    """The fastest of those that do what is wanted; None: none does.

    Times within a tenth of each other are no different: of these, what finds the most, in the
    least memory.
    """
    enough = [one for one in found if wanted.met(one)]
    if not enough:
        return None
    least = min(map(wanted.time, enough))
    near = [one for one in enough if wanted.time(one) <= 1.1 * least]
    return max(near, key=lambda one: (one.low, -one.memory))


def measured(
    gallery: Gallery,
    wanted: Wanted,
    queries: np.ndarray | None = None,
    seed: int = 0,
    say: Callable[[str], None] = lambda what: None,
) -> Iterator[Measured]:
    """Measure candidates on the gallery's vectors, against exact neighbours of queries.

    Args:
        queries: (q, dim) float32. None: some of the gallery's own vectors, which are then left
            out of the indexes that are measured. ``seed`` says which; and which of more than
            2,000 queries are taken.
        say: called with what comes next: which index is built, or left out since it would take
            more memory than is wanted.

    Raises:
        GalleryError: there are too few records, or no queries; another backend than FAISS.
        RunError: there is no room for an index in TMPDIR.
    """
    if gallery.manifest.backend != "faiss":
        raise GalleryError(
            f"{gallery.folder}: its backend is {gallery.manifest.backend}, and tuning chooses "
            "among indexes of faiss; build it with that"
        )
    if len(gallery) < FEWEST:
        raise GalleryError(
            f"{gallery.folder}: has {len(gallery)} records, too few to measure anything; of fewer "
            "than some thousands the factory 'Flat' is best"
        )
    rng = np.random.default_rng(seed)
    kept = np.ones(len(gallery), bool)
    if queries is None:
        size = min(QUERIES, len(gallery) // SHARE)
        chosen = np.sort(rng.choice(len(gallery), size, replace=False))
        kept[chosen] = False
        queries = gallery.vectors(chosen)
    elif len(queries) > QUERIES:
        queries = queries[np.sort(rng.choice(len(queries), QUERIES, replace=False))]
    if not len(queries):
        raise GalleryError("no queries to measure with; give some, or leave that out")
    rest = _Rest(gallery, kept)
    k = min(wanted.k, len(rest))
    scores, _ = gallery.nearest(queries, k, among=kept)
    truth = Truth(queries, scores[:, -1], k)
    for candidate in candidates(len(rest), gallery.dim):
        if wanted.memory is not None and candidate.bytes * len(rest) > wanted.memory:
            say(f"left out: {candidate.factory}, for which {wanted.memory:,} bytes are too few")
            continue
        say(f"measuring {candidate.factory}")
        with tempfile.TemporaryDirectory(prefix="msiam-tune-") as folder:
            place = Path(folder) / "index"
            with room_on_disk(place):
                yield from measure(candidate, rest, truth, wanted.recall, place)


class _Rest:
    """The vectors at some positions, in chunks, as often as they are gone through."""

    def __init__(self, gallery: Gallery, kept: np.ndarray) -> None:
        self._gallery, self._kept = gallery, kept

    def __len__(self) -> int:
        return int(self._kept.sum())

    def __iter__(self) -> Iterator[np.ndarray]:
        start = 0
        for chunk in self._gallery.all_vectors():
            kept = self._kept[start : start + len(chunk)]
            start += len(chunk)
            yield chunk if kept.all() else chunk[kept]
