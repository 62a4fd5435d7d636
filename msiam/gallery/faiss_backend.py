"""FAISS as a gallery's index. Exact unless told otherwise."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, Self

import faiss
import numpy as np

from msiam.errors import GalleryError
from msiam.gallery.backend import Backend, as_mask, as_vectors
from msiam.gallery.exact import nearest_among
from msiam.gallery.faiss_options import (
    FaissOptions,
    described,
    flat_vectors,
    inverted,
    make_index,
    refusals,
    set_search,
    whole_vectors,
)
from msiam.gallery.faiss_shards import Shards, write_file
from msiam.gallery.faiss_training import trained
from msiam.gallery.vector_file import taken

# The size of a batch (queries × dim) from which FAISS multiplies matrices, and not vectors one by
# one. Its own limit, 128,000, leaves batches of 8 to 500 queries at a third of the speed.
faiss.cvar.distance_compute_blas_threshold = 2000

#: Among some positions FAISS multiplies one by one, where a batch of this many queries is better
#: off with the survivors in a matrix; and so is a single query among so small a share.
MANY, FEW = 20, 0.1
#: Vectors that are added to a gallery, up to which they get no other index than Flat.
FLAT = 1 << 16


class FaissBackend(Backend):
    """Any FAISS index of inner products that ``index_factory`` can make.

    Ids stay out of FAISS: its IDMap2 takes the same id twice and ignores filters over Refine.

    An index is opened by mapping its file: inverted lists, vectors and graphs stay on disk until
    a search goes there, and what the system has no room for it drops. (Fast-scan codes, which are
    small, are read.)
    """

    Options = FaissOptions

    def __init__(self, index: Any, file: IO[bytes] | None = None) -> None:
        self._index = index
        self._file = file  # what it is mapped from
        self._mapping = threading.Lock()

    @classmethod
    def options_for(cls, options: FaissOptions, count: int) -> FaissOptions:
        """A few vectors are gone through faster than any index of theirs, and exactly."""
        return FaissOptions() if count <= FLAT else options

    @classmethod
    def build(cls, vectors: Iterable[np.ndarray], dim: int, options: FaissOptions) -> Self:
        """Index vectors, a chunk in memory. An index that must be trained (IVF, PQ) is trained on
        a sample; inverted lists of more than 1 GiB go to disk meanwhile, in TMPDIR."""
        index = make_index(dim, options.factory)
        set_search(index, options)
        what = described(options.factory)
        shards = Shards(index)
        once = iter(vectors) is vectors
        checked = iter(_Checked(vectors, dim)) if once else _Checked(vectors, dim)
        with contextlib.closing(shards), trained(index, checked, what) as chunks:
            for chunk in filter(len, chunks):
                with refusals(what):
                    shards.add(chunk)
            merged = shards.merged()
            if merged is not None:
                return cls.open(merged, options)  # which holds on to the file as it is unlinked
        if index.ntotal == 0:
            raise GalleryError(f"{what}: no vectors to index; at least one is needed")
        return cls(index)

    @classmethod
    def open(cls, path: Path, options: FaissOptions) -> Self:
        file = path.open("rb")
        try:
            with refusals(str(path)):
                index = _mapped(path, options.factory)
            set_search(index, options)
        except BaseException:
            file.close()
            if not path.exists():
                raise FileNotFoundError(2, os.strerror(2), str(path)) from None
            raise
        return cls(index, file)

    def tell(self, options: FaissOptions) -> None:
        """Search with these parameters from now on; what they leave open stays as it is."""
        set_search(self._index, options)

    def save(self, path: Path) -> None:
        if self._file is None:
            write_file(self._index, path)
            return
        self._file.seek(0)
        with path.open("wb") as copy:
            shutil.copyfileobj(self._file, copy, 1 << 20)

    def search(
        self, queries: np.ndarray, k: int, among: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        queries = as_vectors(queries, self.dim, "queries")
        if among is not None and self.exact:
            kept = np.flatnonzero(as_mask(among, len(self)))
            if len(queries) >= MANY or len(kept) < FEW * len(self):
                return nearest_among(queries, k, kept, self.reconstruct)
        scores, positions = self._index.search(queries, k, params=self._only(among))
        scores[positions < 0] = -np.inf
        falls = scores[:, 1:] < scores[:, :-1]
        tied = np.flatnonzero(~falls.all(axis=1))
        if len(tied):
            # FAISS leaves equal scores in the order of its heap, which changes with k. The runs of
            # them are moved apart by more than there are positions, and each is then sorted.
            apart = np.zeros((len(tied), scores.shape[1]), np.int64)
            apart[:, 1:] = falls[tied].cumsum(axis=1) * (len(self) + 1)
            positions[tied] = np.sort(positions[tied] + apart, axis=1) - apart
        return scores, positions

    def _only(self, among: np.ndarray | None) -> Any | None:
        """FAISS's parameters of a search among some positions. (They hold on to the bits.)"""
        if among is None:
            return None
        bits = np.packbits(as_mask(among, len(self)), bitorder="little")
        if not self.filters:
            raise GalleryError(
                f"FAISS's {type(faiss.downcast_index(self._index)).__name__}: does not search "
                "among some positions alone; Flat does"
            )
        library: Any = faiss  # whose stubs know neither of these
        chosen = library.IDSelectorBitmap(bits)
        if self.exact:
            return library.SearchParameters(sel=chosen)
        return library.SearchParametersIVF(sel=chosen, nprobe=inverted(self._index).nlist)

    @property
    def reconstructs(self) -> bool:
        """Wherever whole vectors are kept, beside a graph or for refining too."""
        return whole_vectors(self._index) is not None

    def reconstruct(self, positions: np.ndarray) -> np.ndarray:
        whole = whole_vectors(self._index)
        if whole is None:
            return super().reconstruct(positions)
        if isinstance(whole, faiss.IndexFlat):
            return taken(flat_vectors(whole), positions)
        with self._mapping:
            whole.make_direct_map()  # where in its list each vector stands; made once
        return whole.reconstruct_batch(positions)

    def __len__(self) -> int:
        return self._index.ntotal

    @property
    def dim(self) -> int:
        return self._index.d

    @property
    def exact(self) -> bool:
        return isinstance(faiss.downcast_index(self._index), faiss.IndexFlat)

    @property
    def filters(self) -> bool:
        """Flat, and whole vectors in inverted lists, which are then all gone through.

        Refine ignores a filter without a word, NSG and fast-scan RaBitQ refuse one, and graphs
        and codes lose much of what is there when little is left.
        """
        return self.exact or isinstance(faiss.downcast_index(self._index), faiss.IndexIVFFlat)


class _Checked:
    """Vectors that are looked at as they pass, each time that they are gone through."""

    def __init__(self, vectors: Iterable[np.ndarray], dim: int) -> None:
        self._vectors, self._dim = vectors, dim

    def __iter__(self) -> Iterator[np.ndarray]:
        return (as_vectors(chunk, self._dim, "vectors to index") for chunk in self._vectors)


def _mapped(path: Path, factory: str) -> Any:
    """FAISS maps inverted lists, or vectors and graphs: not both of one file."""
    lists_alone = "IVF" in factory and not re.search(r"RFlat|Refine", factory)
    flags = faiss.IO_FLAG_MMAP if lists_alone else faiss.IO_FLAG_MMAP_IFC
    return faiss.read_index(str(path), flags)
