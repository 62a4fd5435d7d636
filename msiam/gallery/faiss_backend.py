"""FAISS as a gallery's index. Exact unless told otherwise."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Self

import faiss
import numpy as np
import pydantic

from msiam.errors import GalleryError
from msiam.gallery.backend import Backend, as_vectors
from msiam.registry.options import Options


class FaissOptions(Options):
    factory: str = pydantic.Field(
        "Flat", description="a string for FAISS's index_factory: Flat (exact), HNSW32, IVF256,Flat"
    )


class FaissBackend(Backend):
    """Any FAISS index of inner products that ``index_factory`` can make.

    Ids stay out of FAISS: its IDMap2 takes the same id twice and ignores filters over Refine.
    """

    Options = FaissOptions

    def __init__(self, index: Any) -> None:
        self._index = index

    @classmethod
    def build(cls, vectors: Iterable[np.ndarray], dim: int, options: FaissOptions) -> Self:
        """Index vectors. An index that must be trained (IVF, PQ) is trained on all of them, and
        holds them in memory twice meanwhile; the others take one chunk after the other."""
        what = f"FAISS index '{options.factory}'"
        with _refusals(what):
            index = faiss.index_factory(dim, options.factory, faiss.METRIC_INNER_PRODUCT)
        if index.metric_type != faiss.METRIC_INNER_PRODUCT:
            # HNSW32_PQ8 and its kin answer with Euclidean distances whatever they are asked for.
            raise GalleryError(
                f"{what}: has no inner product; take another, such as Flat or HNSW32"
            )
        chunks: Iterable[np.ndarray] = (as_vectors(c, dim, "vectors to index") for c in vectors)
        if not index.is_trained:
            everything = np.concatenate([np.empty((0, dim), np.float32), *chunks])
            if len(everything):
                with _refusals(what):
                    index.train(everything)
            chunks = [everything] if len(everything) else []
        for chunk in chunks:
            with _refusals(what):
                index.add(chunk)
        if index.ntotal == 0:
            raise GalleryError(f"{what}: no vectors to index; at least one is needed")
        return cls(index)

    @classmethod
    def open(cls, path: Path, options: FaissOptions) -> Self:
        with path.open("rb") as file, _refusals(str(path)):
            return cls(faiss.read_index(faiss.PyCallbackIOReader(file.read)))  # type: ignore[attr-defined]

    def save(self, path: Path) -> None:
        # Not write_index(path): where the disk fills up at the last buffer, that only prints a
        # line, and leaves a file that is cut off. (FAISS's type stubs leave these classes out.)
        with path.open("wb") as file:
            faiss.write_index(self._index, faiss.PyCallbackIOWriter(file.write))  # type: ignore[attr-defined]

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        scores, positions = self._index.search(as_vectors(queries, self.dim, "queries"), k)
        scores[positions < 0] = -np.inf
        # FAISS leaves equal scores in the order of its heap, which changes with k.
        order = np.lexsort((positions, -scores))
        return np.take_along_axis(scores, order, 1), np.take_along_axis(positions, order, 1)

    def __len__(self) -> int:
        return self._index.ntotal

    @property
    def dim(self) -> int:
        return self._index.d

    @property
    def exact(self) -> bool:
        return isinstance(faiss.downcast_index(self._index), faiss.IndexFlat)


@contextlib.contextmanager
def _refusals(what: str) -> Iterator[None]:
    """Turn what FAISS says, after a C++ signature and a line number, into one line."""
    try:
        yield
    except RuntimeError as error:
        reason = " ".join(str(error).split()).rpartition(": ")[2]
        raise GalleryError(
            f"{what}: FAISS refuses it ({reason}); the factory 'Flat' takes vectors of any "
            "number and width"
        ) from error
