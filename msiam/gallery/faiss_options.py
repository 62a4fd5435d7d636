"""What a recipe may say of a FAISS index, and how an index is told."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import faiss
import numpy as np
import pydantic

from msiam.errors import GalleryError
from msiam.registry.options import Options


class FaissOptions(Options):
    factory: str = pydantic.Field(
        "Flat", description="a string for FAISS's index_factory: Flat (exact), HNSW32, IVF256,Flat"
    )
    nprobe: int | None = pydantic.Field(
        None, ge=1, description="how many inverted lists a search goes through (IVF)"
    )
    ef_search: int | None = pydantic.Field(
        None, ge=1, description="how many candidates a search keeps in the graph (HNSW)"
    )
    k_factor: float | None = pydantic.Field(
        None, ge=1, description="how many times k are scored again (Refine, RFlat)"
    )


def make_index(dim: int, factory: str) -> Any:
    """An empty index of inner products.

    Raises:
        GalleryError: FAISS does not know it, or it has no inner product.
    """
    what = described(factory)
    with refusals(what):
        index = faiss.index_factory(dim, factory, faiss.METRIC_INNER_PRODUCT)
    if index.metric_type != faiss.METRIC_INNER_PRODUCT:
        # HNSW32_PQ8 and its kin answer with Euclidean distances whatever they are asked for.
        raise GalleryError(f"{what}: has no inner product; take another, such as Flat or HNSW32")
    return index


def set_search(index: Any, options: FaissOptions) -> None:
    """Tell an index how to search; what the options leave open stays as it is.

    Raises:
        GalleryError: the index has no such part.
    """
    for key, part, needs in (
        ("nprobe", inverted(index), "inverted lists; IVF256,Flat has"),
        ("ef_search", _graph(index), "graph; HNSW32 has one"),
        ("k_factor", _refining(index), "second stage; IVF256,PQ16x4fs,RFlat has one"),
    ):
        value = getattr(options, key)
        if value is None:
            continue
        if part is None:
            raise GalleryError(
                f"{described(options.factory)}: {key} is {value}, and it has no {needs}"
            )
        if key == "nprobe":
            part.nprobe = min(value, part.nlist)
        elif key == "ef_search":
            part.hnsw.efSearch = value
        else:
            part.k_factor = value


def inverted(index: Any) -> Any:
    """The part with inverted lists: the index, or what Refine or OPQ wrap; None: there is none."""
    return faiss.try_extract_index_ivf(index)


def _graph(index: Any) -> Any | None:
    """The HNSW graph: of the vectors, or of the centroids of inverted lists."""
    index = faiss.downcast_index(index)
    if isinstance(index, faiss.IndexHNSW):
        return index
    lists = inverted(index)
    if lists is not None:
        return _graph(lists.quantizer)
    inner = getattr(index, "base_index", None) or getattr(index, "index", None)
    return None if inner is None else _graph(inner)


def _refining(index: Any) -> Any | None:
    index = faiss.downcast_index(index)
    return index if isinstance(index, faiss.IndexRefine) else None


def whole_vectors(index: Any) -> Any | None:
    """The part that keeps vectors as they were, flat or in inverted lists; None: there is none."""
    index = faiss.downcast_index(index)
    if isinstance(index, faiss.IndexHNSW):
        index = faiss.downcast_index(index.storage)
    elif isinstance(index, faiss.IndexRefine):
        index = faiss.downcast_index(index.refine_index)
    # Not their kin, which lay vectors out in other ways.
    return (
        index if type(index) in (faiss.IndexFlatIP, faiss.IndexFlat, faiss.IndexIVFFlat) else None
    )


def flat_vectors(index: Any) -> np.ndarray:
    """What a flat index holds, (n, dim), where it is: in memory, or mapped."""
    size = index.ntotal * index.d
    if not size:
        return np.empty((0, index.d), np.float32)
    return faiss.rev_swig_ptr(index.get_xb(), size).reshape(-1, index.d)


def described(factory: str) -> str:
    return f"FAISS index '{factory}'"


@contextlib.contextmanager
def refusals(what: str) -> Iterator[None]:
    """Turn what FAISS says, after a C++ signature and a line number, into one line."""
    try:
        yield
    except RuntimeError as error:
        reason = " ".join(str(error).split()).rpartition(": ")[2]
        raise GalleryError(
            f"{what}: FAISS refuses it ({reason}); the factory 'Flat' takes vectors of any "
            "number and width"
        ) from error
