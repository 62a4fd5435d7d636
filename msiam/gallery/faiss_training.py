"""What a FAISS index learns before it takes vectors: a sample of them, whatever their number."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from msiam.gallery.faiss_options import inverted, refusals

#: Vectors for each centroid. FAISS warns below 39; more than 256 change nothing.
PER_CENTROID = 64
#: Product quantizers have 256 centroids each at most, and learn from the same sample.
FEWEST = 1 << 16
ROWS = 1 << 16  # read back at a time


@contextlib.contextmanager
def trained(index: Any, chunks: Iterable[np.ndarray], what: str) -> Iterator[Iterable[np.ndarray]]:
    """Train an index on a sample drawn evenly from all vectors, and give them to be added.

    The first ones would not do: tables are sorted, and a list of shoes teaches nothing of hats.
    """
    if index.is_trained:
        yield chunks
        return
    with contextlib.ExitStack() as stack:
        if iter(chunks) is chunks:
            spool = stack.enter_context(tempfile.TemporaryFile())
            sample = drawn(_copied(chunks, spool), index.d, _wanted(index))
            chunks = _read_back(spool, index.d)
        else:
            sample = drawn(chunks, index.d, _wanted(index))
        if len(sample):
            _hush(index)
            with refusals(what):
                index.train(sample)
        del sample
        yield chunks


def drawn(chunks: Iterable[np.ndarray], dim: int, size: int) -> np.ndarray:
    """``size`` of the vectors, each as likely as any other; all where there are fewer.

    Vitter's reservoir (1985): the i-th vector takes a place with probability size / i. The same
    vectors give the same sample.
    """
    rng = np.random.default_rng(0)
    reservoir = np.empty((0, dim), np.float32)
    seen = 0
    for chunk in chunks:
        filling = chunk[: max(0, size - seen)]
        if len(filling):
            reservoir = _grown(reservoir, seen, filling, size)
        numbers = np.arange(seen + len(filling), seen + len(chunk))
        places = rng.integers(0, numbers + 1) if len(numbers) else numbers
        taken = np.flatnonzero(places < size)
        reservoir[places[taken]] = chunk[len(filling) + taken]
        seen += len(chunk)
    return reservoir[: min(seen, size)]


def _grown(reservoir: np.ndarray, seen: int, more: np.ndarray, size: int) -> np.ndarray:
    """The reservoir with ``more`` at place ``seen``; twice as large where it was full."""
    need = seen + len(more)
    if need > len(reservoir):
        larger = np.empty((min(size, max(need, 2 * len(reservoir))), more.shape[1]), np.float32)
        larger[:seen] = reservoir[:seen]
        reservoir = larger
    reservoir[seen:need] = more
    return reservoir


def _wanted(index: Any) -> int:
    lists = inverted(index)
    return max(FEWEST, PER_CENTROID * (lists.nlist if lists is not None else 1))


def _hush(index: Any) -> None:
    """Small galleries are no reason for a warning a quantizer on stderr."""
    lists = inverted(index)
    for part in (lists, getattr(lists, "pq", None), getattr(index, "pq", None)):
        if part is not None:
            part.cp.min_points_per_centroid = 1


def _copied(chunks: Iterable[np.ndarray], spool: Any) -> Iterator[np.ndarray]:
    for chunk in chunks:
        spool.write(chunk.data)
        yield chunk


def _read_back(spool: Any, dim: int) -> Iterator[np.ndarray]:
    spool.seek(0)
    while raw := spool.read(ROWS * dim * 4):
        yield np.frombuffer(raw, np.float32).reshape(-1, dim)
