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


FACTORIES = [
    "Flat", "HNSW32", "IVF4,Flat", "SQ8,RFlat", "IVF4,PQ8x4fs,RFlat", "IVF4,RaBitQ,RFlat",
    "RaBitQfs", "OPQ8,IVF4,PQ8x4",
]  # fmt: skip


@pytest.mark.parametrize("factory", FACTORIES)
def test_conforms(factory):
    check_backend(FaissBackend, {"factory": factory})


@pytest.mark.parametrize("factory", ["HNSW32", "SQ8,RFlat", "RaBitQfs", "NSG16"])
def test_a_filter_that_faiss_would_ignore_refuse_or_answer_badly_is_refused(factory):
    with pytest.raises(GalleryError, match="does not search among some positions alone; Flat does"):
        build(unit(300), factory).search(unit(1), 3, among=np.ones(300, bool))


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


@pytest.mark.parametrize(
    ("factory", "options"),
    [("IVF8,Flat", "nprobe"), ("HNSW16", "ef_search"), ("IVF8,PQ8x4fs,RFlat", "k_factor")],
)
def test_parameters_of_a_search_hold_when_it_is_opened_again(tmp_path, factory, options):
    vectors, queries = unit(2000), unit(50, 1)
    true = build(vectors).search(queries, 10)[1]
    recalls = []
    for value in (1, 8, 200):
        given = FaissOptions(factory=factory, **{options: value})
        FaissBackend.build([vectors], DIM, given).save(tmp_path / "index")
        _, found = FaissBackend.open(tmp_path / "index", given).search(queries, 10)
        recalls.append(np.mean([np.isin(f, t).mean() for f, t in zip(found, true, strict=True)]))
    assert recalls[0] + 0.05 < recalls[2] and recalls == sorted(recalls)


@pytest.mark.parametrize(
    ("factory", "options", "message"),
    [
        ("HNSW16", {"nprobe": 4}, "'HNSW16': nprobe is 4, and it has no inverted lists"),
        ("IVF4,Flat", {"ef_search": 4}, "ef_search is 4, and it has no graph"),
        ("IVF4,Flat", {"k_factor": 4}, "k_factor is 4.0, and it has no second stage"),
    ],
)
def test_a_parameter_of_another_index(tmp_path, factory, options, message):
    given = FaissOptions(factory=factory, **options)
    with pytest.raises(GalleryError, match=message):
        FaissBackend.build([unit(100)], DIM, given)
    build(unit(100), factory).save(tmp_path / "index")
    with pytest.raises(GalleryError, match=message):
        FaissBackend.open(tmp_path / "index", given)


def test_an_index_goes_on_when_its_file_is_unlinked_and_can_be_saved_again(tmp_path):
    given = FaissOptions(factory="IVF4,Flat")
    index = FaissBackend.build([unit(500)], DIM, given)
    before = index.search(unit(5, 1), 10)
    index.save(tmp_path / "index")
    opened = FaissBackend.open(tmp_path / "index", given)
    (tmp_path / "index").unlink()
    opened.save(tmp_path / "copy")
    for again in (opened, FaissBackend.open(tmp_path / "copy", given)):
        np.testing.assert_array_equal(again.search(unit(5, 1), 10)[1], before[1])


# What the conformance test must notice, each in a backend that is otherwise right.


class Sound(FaissBackend):
    def __init__(self, index, file=None):
        super().__init__(index, file)


class Ascending(Sound):
    def search(self, queries, k, among=None):
        scores, positions = super().search(queries, k, among)
        return scores[:, ::-1], positions[:, ::-1]


class ZeroForNone(Sound):
    def search(self, queries, k, among=None):
        scores, positions = super().search(queries, k, among)
        return np.where(positions < 0, np.float32(-2), scores), positions


class Int32(Sound):
    def search(self, queries, k, among=None):
        scores, positions = super().search(queries, k, among)
        return scores, positions.astype(np.int32)


class OffByOne(Sound):
    def search(self, queries, k, among=None):
        scores, positions = super().search(queries, k, among)
        return scores, np.where(positions < 0, -1, (positions + 1) % len(self))


class FirstOnly(Sound):
    def search(self, queries, k, among=None):
        scores, positions = super().search(queries, k, among)
        scores[:, 1:], positions[:, 1:] = -np.inf, -1
        return scores, positions


class Twice(Sound):
    def search(self, queries, k, among=None):
        scores, positions = super().search(queries, k, among)
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
    def search(self, queries, k, among=None):
        if among is not None:
            return super().search(queries, k, among)
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
    def search(self, queries, k, among=None):
        assert queries.shape[1] == DIM
        return super().search(queries, k, among)


class Deaf(Sound):
    def search(self, queries, k, among=None):
        return super().search(queries, k)


class Lossy(Sound):
    def search(self, queries, k, among=None):
        if among is not None and among.sum() < 50:
            among = among & (np.arange(len(among)) % 2 == 0)
        return super().search(queries, k, among)


class Silent(Sound):
    filters = False

    def search(self, queries, k, among=None):
        return super().search(queries, k)


@pytest.mark.parametrize(
    ("backend", "message"),
    [
        (Deaf, "finds what is not among"),
        (Lossy, "misses the best among 30"),
        (Silent, "among, without filters: accepted"),
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

        def search(self, queries, k, among=None):
            others = faiss.IndexFlatIP(DIM)
            others.add(unit(len(self), seed=5))
            return Sound(others).search(queries, k)

    with pytest.raises(AssertionError, match="hardly more than chance"):
        check_backend(Random)
