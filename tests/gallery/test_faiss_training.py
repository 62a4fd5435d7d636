from __future__ import annotations

import faiss
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msiam.gallery import faiss_training
from msiam.gallery.faiss_training import drawn, trained


def numbered(count, dim=2):
    return np.repeat(np.arange(count, dtype=np.float32)[:, None], dim, axis=1)


@given(
    sizes=st.lists(st.integers(0, 30), max_size=6),
    size=st.integers(1, 40),
)
def test_a_sample_holds_vectors_of_all_chunks_none_twice(sizes, size):
    count = sum(sizes)
    chunks = np.split(numbered(count), np.cumsum(sizes)[:-1]) if sizes else []
    sample = drawn(chunks, 2, size)
    assert sample.shape == (min(size, count), 2)
    assert len(np.unique(sample[:, 0])) == len(sample)


def test_every_vector_is_as_likely_as_any_other():
    chunks = np.split(numbered(100_000), 37 * np.arange(1, 2000))
    numbers = drawn(chunks, 2, 10_000)[:, 0]
    tenths = np.histogram(numbers, bins=10, range=(0, 100_000))[0]
    assert (np.abs(tenths - 1000) < 5 * np.sqrt(900)).all()


@pytest.mark.parametrize("once", [True, False])
def test_a_sorted_table_teaches_all_of_its_kinds(monkeypatch, once):
    """The first vectors alone would put every centroid into the first of two kinds."""
    monkeypatch.setattr(faiss_training, "FEWEST", 200)
    rng = np.random.default_rng(0)
    kinds = [np.eye(8, dtype=np.float32)[k] + 0.1 * rng.normal(size=(1000, 8)) for k in (0, 1)]
    chunks = [c.astype(np.float32) for kind in kinds for c in np.split(kind, 10)]
    index = faiss.index_factory(8, "IVF2,Flat", faiss.METRIC_INNER_PRODUCT)
    with trained(index, iter(chunks) if once else chunks, "an index") as given:
        added = np.concatenate(list(given))
    np.testing.assert_array_equal(added, np.concatenate(chunks))
    centroids = index.quantizer.reconstruct_n(0, 2)
    assert sorted(centroids[:, :2].argmax(axis=1)) == [0, 1]


def test_what_learns_nothing_takes_its_vectors_as_they_come():
    chunks = iter([numbered(3)])
    with trained(faiss.IndexFlatIP(2), chunks, "an index") as given:
        assert given is chunks
