from __future__ import annotations

import faiss
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msiam.gallery.faiss_options import FaissOptions, make_index
from msiam.gallery.tuning_candidates import FEWEST, candidates


@given(st.integers(1, 10**9), st.integers(1, 4096))
def test_each_is_an_index_of_faiss_whatever_the_vectors(count, dim):
    found = list(candidates(count, dim))
    assert [c.factory for c in found[:2]] == ["Flat", "HNSW32"]
    assert len({c.factory for c in found}) == len(found)
    for candidate in found:
        if candidate.depth is None:
            continue
        name, least, most = candidate.depth
        assert 1 <= least <= most
        told = candidate.options(most, 4 if candidate.refines else None)
        assert getattr(told, name) == most
        if name == "nprobe":
            lists = int(candidate.factory.split(",")[0].removeprefix("IVF"))
            assert most == lists and lists * FEWEST <= count
        assert told.k_factor == (4 if candidate.refines else None)


@pytest.mark.parametrize("dim", [8, 17, 100, 384])
def test_they_are_made(dim):
    factories = [c.factory for c in candidates(20_000, dim)]
    for factory in factories:
        assert make_index(dim, factory).metric_type == faiss.METRIC_INNER_PRODUCT
    assert ("PQ" in "".join(factories)) == (dim != 17)  # a prime number has no parts


def test_what_is_compared():
    assert [c.factory for c in candidates(1_000_000, 128)] == [
        "Flat",
        "HNSW32",
        "IVF4096,Flat",
        "IVF4096,PQ64x4fs,RFlat",
        "IVF4096,RaBitQfs,RFlat",
    ]
    assert [c.factory for c in candidates(100, 128)] == ["Flat", "HNSW32"]
    first = next(candidates(100, 8))
    assert first.options() == FaissOptions(factory="Flat")
