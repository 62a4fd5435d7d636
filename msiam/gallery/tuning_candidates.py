"""The FAISS indexes that tuning compares, and how far each may be searched."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from msiam.gallery.faiss_options import FaissOptions

#: Vectors of an inverted list, below which FAISS warns that there are too few.
FEWEST = 39
#: Dimensions that share four bits of a product quantizer, at most: more say too little of them.
WIDEST = 8


@dataclass(frozen=True)
class Candidate:
    """An index and its search parameters.

    Attributes:
        factory: for FAISS's ``index_factory``.
        depth: the parameter that says how far a search goes, its least and its largest value;
            None: it goes through everything.
        refines: whether vectors are found by short codes, and then scored again.
        bytes: that a vector takes of the memory for searching, at least.
    """

    factory: str
    bytes: float
    depth: tuple[str, int, int] | None = None
    refines: bool = False

    def options(self, depth: int | None = None, k_factor: int | None = None) -> FaissOptions:
        """The backend's options of a search so far."""
        told = {} if self.depth is None else {self.depth[0]: depth}
        return FaissOptions(factory=self.factory, k_factor=k_factor, **told)


def candidates(count: int, dim: int) -> Iterator[Candidate]:
    """What is worth trying on so many vectors of this width.

    Inverted lists are 4 √count, rounded to a power of two, where that leaves each enough vectors.
    A product quantizer has four bits for each two dimensions, or where these do not divide the
    width, for as few as do.
    """
    yield Candidate("Flat", 4 * dim)
    yield Candidate("HNSW32", 4 * dim + 64 * 4, ("ef_search", 16, 1024))  # twice 32 neighbours
    lists = 2 ** round(math.log2(4 * math.sqrt(count)))
    lists = min(lists, 2 ** int(math.log2(max(1, count // FEWEST))))
    if lists < 4:
        return
    depth = ("nprobe", 1, lists)
    yield Candidate(f"IVF{lists},Flat", 4 * dim + 8, depth)
    width = next((w for w in range(2, WIDEST + 1) if dim % w == 0), None)
    if width is not None:
        codes = dim // width
        yield Candidate(f"IVF{lists},PQ{codes}x4fs,RFlat", codes / 2 + 8, depth, refines=True)
    yield Candidate(f"IVF{lists},RaBitQfs,RFlat", dim / 8 + 8, depth, refines=True)
