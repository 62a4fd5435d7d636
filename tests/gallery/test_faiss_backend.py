from __future__ import annotations

import resource

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msiam.errors import GalleryError
from msiam.gallery.backend import Backend
from msiam.gallery.faiss_backend import FaissBackend, FaissOptions
from msiam.registry.conformance.backend import check_backend

DIM = 16


def unit(count, seed=0, dim=DIM):
    vectors = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def build(vectors, factory="Flat"):
    return FaissBackend.build([vectors], vectors.shape[1], FaissOptions(factory=factory))


@pytest.mark.parametrize("factory", ["Flat", "HNSW32", "IVF4,Flat", "SQ8,RFlat"])
def test_conforms(factory):
    check_backend(FaissBackend, {"factory": factory})


def test_flat_is_the_default_and_exact():
    index = FaissBackend.build([unit(10)], DIM, FaissOptions())
    assert index.exact
    assert not build(unit(100), "HNSW16").exact


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 20), min_size=1, max_size=5),
    dim=st.integers(1, 20),
    k=st.integers(1, 60),
    seed=st.integers(0, 99),
)
def test_finds_what_brute_force_finds(sizes, dim, k, seed):
    vectors, queries = unit(sum(sizes), seed, dim), unit(3, seed + 1, dim)
    chunks = np.split(vectors, np.cumsum(sizes)[:-1])
    scores, positions = FaissBackend.build(chunks, dim, FaissOptions()).search(queries, k)
    products = queries @ vectors.T
    wanted = -np.sort(-products, axis=1)[:, :k]
    n = wanted.shape[1]
    np.testing.assert_allclose(scores[:, :n], wanted, atol=1e-5)
    np.testing.assert_allclose(
        np.take_along_axis(products, positions[:, :n], axis=1), wanted, atol=1e-5
    )
    assert (positions[:, n:] == -1).all() and np.isneginf(scores[:, n:]).all()


@pytest.mark.parametrize("k", [1, 3, 12, 20])
def test_equal_scores_come_in_the_order_of_positions(k):
    vectors = np.repeat(unit(2), 10, axis=0)
    _, positions = build(vectors).search(vectors[:1], k)
    assert positions[0].tolist() == list(range(k))


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("Flatt", "FAISS index 'Flatt': FAISS refuses it .could not parse index string Flatt"),
        ("", "FAISS index '': FAISS refuses it"),
        ("PQ7", "multiple of the number of subquantizers"),
        (
            "IVF4096,Flat",
            r"training points \(50\) should be at least as large as .* clusters \(4096",
        ),
        ("IDMap,Flat", "add does not make sense with IndexIDMap"),
        ("LSH", "FAISS index 'LSH': FAISS refuses it"),
    ],
)
def test_a_factory_that_faiss_refuses(factory, message):
    with pytest.raises(GalleryError, match=message) as caught:
        build(unit(50), factory)
    assert "\n" not in str(caught.value) and "'Flat'" in str(caught.value)


def test_an_index_that_would_answer_with_euclidean_distances_is_refused():
    with pytest.raises(GalleryError, match="'HNSW32_PQ8': has no inner product"):
        build(unit(300), "HNSW32_PQ8")


def test_an_index_in_training_sees_every_chunk():
    chunks = [unit(40, seed) for seed in range(3)]
    index = FaissBackend.build(iter(chunks), DIM, FaissOptions(factory="IVF2,Flat"))
    assert len(index) == 120


@pytest.mark.parametrize("factory", ["Flat", "IVF2,Flat"])
@pytest.mark.parametrize("chunks", [[], [np.empty((0, DIM), np.float32)]])
def test_no_vectors(factory, chunks):
    with pytest.raises(GalleryError, match="no vectors to index"):
        FaissBackend.build(chunks, DIM, FaissOptions(factory=factory))


def test_a_fault_of_whoever_makes_the_vectors_is_not_blamed_on_faiss():
    def broken():
        yield unit(3)
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match=r"^out of memory$"):
        FaissBackend.build(broken(), DIM, FaissOptions())


def test_a_file_that_is_no_index(tmp_path):
    path = tmp_path / "index.faiss"
    path.write_bytes(b"this is no index")
    with pytest.raises(GalleryError, match=r"index\.faiss: FAISS refuses it"):
        FaissBackend.open(path, FaissOptions())


@pytest.mark.parametrize("missing", [1, 13, 3000])
def test_a_full_disk_is_never_silent(tmp_path, missing):
    """FAISS's own writer, where only the last buffer does not fit, prints a line and goes on."""
    index = build(unit(200))
    index.save(tmp_path / "whole")
    size = (tmp_path / "whole").stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size - missing, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            index.save(tmp_path / "cut")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# What the conformance test must notice, each in a backend that is otherwise right.


class Sound(FaissBackend):
    def __init__(self, index):
        super().__init__(index)


class Ascending(Sound):
    def search(self, queries, k):
        scores, positions = super().search(queries, k)
        return scores[:, ::-1], positions[:, ::-1]


class ZeroForNone(Sound):
    def search(self, queries, k):
        scores, positions = super().search(queries, k)
        return np.where(positions < 0, np.float32(-2), scores), positions


class Int32(Sound):
    def search(self, queries, k):
        scores, positions = super().search(queries, k)
        return scores, positions.astype(np.int32)


class OffByOne(Sound):
    def search(self, queries, k):
        scores, positions = super().search(queries, k)
        return scores, np.where(positions < 0, -1, (positions + 1) % len(self))


class FirstOnly(Sound):
    def search(self, queries, k):
        scores, positions = super().search(queries, k)
        scores[:, 1:], positions[:, 1:] = -np.inf, -1
        return scores, positions


class Twice(Sound):
    def search(self, queries, k):
        scores, positions = super().search(queries, k)
        scores[:, 1], positions[:, 1] = scores[:, 0], positions[:, 0]
        return scores, positions


class FirstChunkOnly(Sound):
    @classmethod
    def build(cls, vectors, dim, options):
        return super().build([next(iter(vectors))], dim, options)


class Forgetful(Sound):
    @classmethod
    def open(cls, path, options):
        index = super().open(path, options)
        return cls.build([index._index.reconstruct_n(0, 400)], DIM, options)


class Careless(Sound):
    def search(self, queries, k):
        found = self._index.search(np.nan_to_num(np.resize(queries, (len(queries), DIM))), k)
        found[0][found[1] < 0] = -np.inf
        return found


class Vague(Sound):
    @classmethod
    def open(cls, path, options):
        if not path.exists():
            raise GalleryError("cannot be read")
        return super().open(path, options)


class Blunt(Sound):
    def search(self, queries, k):
        assert queries.shape[1] == DIM
        return super().search(queries, k)


@pytest.mark.parametrize(
    ("backend", "message"),
    [
        (Ascending, "do not descend"),
        (ZeroForNone, "must coincide"),
        (Int32, "positions are .* int32, not"),
        (OffByOne, "names other positions"),
        (FirstOnly, "misses the best"),
        (Twice, "there twice"),
        (FirstChunkOnly, r"len\(\) is 1 after 500"),
        (Forgetful, "after save and open"),
        (Vague, "a missing file: GalleryError"),
        (Careless, "queries .narrow.: accepted"),
        (Blunt, "queries .narrow.: AssertionError instead of GalleryError"),
    ],
)
def test_the_conformance_test_notices(backend, message):
    assert issubclass(backend, Backend)
    check_backend(Sound)
    with pytest.raises(AssertionError, match=message):
        check_backend(backend)


def test_the_conformance_test_wants_more_than_chance_of_an_approximate_backend():
    class Random(Sound):
        exact = False

        def search(self, queries, k):
            others = faiss.IndexFlatIP(DIM)
            others.add(unit(len(self), seed=5))
            return Sound(others).search(queries, k)

    with pytest.raises(AssertionError, match="hardly more than chance"):
        check_backend(Random)
