from __future__ import annotations

import errno

import numpy as np
import pytest

from msiam.errors import GalleryError, RunError
from msiam.gallery import tuning, tuning_measure
from msiam.gallery.faiss_options import FaissOptions
from msiam.gallery.gallery import Gallery
from msiam.gallery.manifest import Manifest
from msiam.gallery.tuning import Wanted, best, measured
from msiam.gallery.tuning_candidates import Candidate
from msiam.gallery.tuning_measure import Measured

COUNT, DIM, K = 20_000, 32, 10
#: Four of the five kinds. (A product quantizer takes the longest to train, and is measured beside.)
KINDS = [
    Candidate("Flat", 128),
    Candidate("HNSW16", 256, ("ef_search", 16, 1024)),
    Candidate("IVF128,Flat", 136, ("nprobe", 1, 128)),
    Candidate("IVF128,RaBitQfs,RFlat", 12, ("nprobe", 1, 128), refines=True),
]


def clustered(count, seed):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(5).normal(size=(300, DIM))
    found = centres[rng.integers(0, 300, count)] + 0.8 * rng.normal(size=(count, DIM))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


VECTORS = clustered(COUNT, 0)


class Numbers:
    """A model whose texts are numbers of vectors."""

    def __init__(self):
        self.columns = {"text": "text"}
        self.embedded = 0

    def fingerprint(self):
        return "numbers"

    def column_for(self, query, but=None):
        return "text"

    def embed(self, column, items, root=None, progress=None, how=None):
        self.embedded += len(items)
        return VECTORS[[int(item) for item in items]], []


def built(folder, count=COUNT, **options):
    rows = [{"text": str(n), "sku": f"s{n}"} for n in range(count)]
    return Gallery.build(Numbers(), rows, "text", folder, "sku", options=options)


@pytest.fixture(scope="module")
def gallery(tmp_path_factory):
    return built(tmp_path_factory.mktemp("tuning") / "g")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return built(tmp_path_factory.mktemp("small") / "g", 1000)


def true_recall(gallery, queries):
    """The share of the ten nearest that a gallery's own search finds, by their positions."""
    exact = np.argsort(-(queries @ VECTORS.T), axis=1)[:, :K]
    _, found = gallery.nearest(queries, K)
    return np.mean([len(np.intersect1d(a, b)) / K for a, b in zip(exact, found, strict=True)])


def test_what_is_promised_holds_on_fresh_queries_to_within_a_point(gallery, monkeypatch):
    """Of each kind of index, the fastest that was measured to be good enough."""
    recall = 0.95
    monkeypatch.setattr(tuning, "candidates", lambda count, dim: iter(KINDS))
    monkeypatch.setattr(tuning_measure, "SINGLES", 5)
    found = list(measured(gallery, Wanted(recall), seed=1))
    fresh = clustered(3000, 17)
    for kind in KINDS:
        of = [one for one in found if one.options.factory == kind.factory]
        chosen = best(of, Wanted(recall))
        assert chosen is not None
        gallery.reindex(chosen.options)
        assert gallery.manifest.options["factory"] == kind.factory
        reopened = Gallery.open(gallery.folder)
        assert true_recall(reopened, fresh) >= recall - 0.01
        assert reopened.model is None and len(reopened) == COUNT


def test_the_gallery_has_the_same_records_after_it_and_nothing_is_embedded(tmp_path):
    before = built(tmp_path / "g", 700)
    model = before.model
    embedded = model.embedded
    queries = clustered(5, 3)
    hits = before.search_vectors(queries, 9, exact=True)
    before.reindex(FaissOptions(factory="IVF16,PQ16x4fs,RFlat", nprobe=5, k_factor=7))
    after = Gallery.open(tmp_path / "g")
    for gallery in (before, after):
        assert gallery.search_vectors(queries, 9, exact=True) == hits
        assert gallery.records(np.arange(700)) == [(f"s{n}", {"text": str(n)}) for n in range(700)]
        assert gallery.search_ids("s5", 3, where="sku = 's7'")[0].id == "s7"
    assert model.embedded == embedded and before.model is model
    options = Manifest.read(tmp_path / "g").options
    assert options == {
        "factory": "IVF16,PQ16x4fs,RFlat", "nprobe": 5, "ef_search": None, "k_factor": 7.0,
    }  # fmt: skip
    before.reindex({"factory": "Flat"})
    assert before.search_vectors(queries, 9) == hits


def test_a_refusal_leaves_the_gallery_as_it_was(small):
    before = Manifest.read(small.folder)
    with pytest.raises(GalleryError, match="FAISS refuses"):
        small.reindex({"factory": "IVF5000,Flat"})
    assert Manifest.read(small.folder) == before
    assert len(Gallery.open(small.folder)) == 1000


def test_own_vectors_are_held_out_of_what_is_measured(small, monkeypatch):
    seen = {}

    def watch(candidate, vectors, truth, target, place):
        seen[candidate.factory] = np.concatenate(list(vectors)), truth
        return iter(())

    monkeypatch.setattr(tuning, "measure", watch)
    list(measured(small, Wanted(0.9), seed=4))
    vectors, truth = seen["Flat"]
    assert len(vectors) == 900 and len(truth.queries) == 100 and truth.k == 10
    together = np.concatenate([vectors, truth.queries])
    assert np.array_equal(np.unique(together, axis=0), np.unique(VECTORS[:1000], axis=0))
    exact = -np.sort(-(truth.queries @ vectors.T), axis=1)[:, 9]
    assert np.allclose(truth.kth, exact, atol=1e-6)
    first = truth.queries
    list(measured(small, Wanted(0.9), seed=4))
    assert np.array_equal(seen["Flat"][1].queries, first)
    list(measured(small, Wanted(0.9), seed=5))
    assert not np.array_equal(seen["Flat"][1].queries, first)


def test_queries_that_are_given_hold_nothing_out(small, monkeypatch):
    seen = []
    monkeypatch.setattr(
        tuning,
        "measure",
        lambda c, vectors, truth, *more: iter(seen.append((sum(map(len, vectors)), truth)) or ()),
    )
    list(measured(small, Wanted(0.9, k=5000), clustered(7, 9)))
    assert seen[0][0] == 1000 and len(seen[0][1].queries) == 7 and seen[0][1].k == 1000
    list(measured(small, Wanted(0.9), clustered(2500, 9)))
    assert len(seen[-1][1].queries) == 2000


def test_a_disk_that_is_full_is_said(small, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")
        yield

    monkeypatch.setattr(tuning, "measure", full)
    with pytest.raises(RunError, match=r"msiam-tune-.*No space left on device"):
        list(measured(small, Wanted(0.9)))


@pytest.mark.parametrize("count", [100, 160, 400])
def test_few_records_are_measured_too(tmp_path, monkeypatch, count):
    monkeypatch.setattr(tuning_measure, "SINGLES", 3)
    found = list(measured(built(tmp_path / "g", count), Wanted(0.5)))
    assert best([one for one in found if one.options.factory == "Flat"], Wanted(0.9)) is not None
    assert len({one.options.factory for one in found}) == (2 if count < 173 else 5)


def test_what_cannot_fit_is_not_built(small, monkeypatch):
    monkeypatch.setattr(tuning, "measure", lambda *arguments: iter(()))
    said = []
    list(measured(small, Wanted(0.9, memory=900 * 4 * DIM), say=said.append))
    assert said == [
        "measuring Flat",
        "left out: HNSW32, for which 115,200 bytes are too few",
        "left out: IVF16,Flat, for which 115,200 bytes are too few",
        "measuring IVF16,PQ16x4fs,RFlat",
        "measuring IVF16,RaBitQfs,RFlat",
    ]


def one(low=0.99, memory=100, single=0.5, batch=0.5):
    return Measured(FaissOptions(), low, low, batch, single, memory, memory, 1)


def test_the_fastest_that_does_all_that_is_wanted():
    slow, fast, large, bad = (
        one(single=3, batch=1),
        one(single=2, batch=2),
        one(memory=999),
        one(0.5),
    )
    found = [slow, bad, fast, large]
    assert best(found, Wanted(0.9, memory=500)) is fast
    assert best(found, Wanted(0.9, memory=500, batch=True)) is slow
    assert best(found, Wanted(0.9)) is large
    assert best(found, Wanted(0.9, latency=0.1)) is None
    assert best(found, Wanted(0.999)) is None
    assert best([], Wanted(0.1)) is None


def test_of_those_that_are_about_as_fast_the_one_that_finds_more_in_less_memory():
    fast, better, smaller = one(0.95, single=1), one(0.97, single=1.09), one(0.97, 50, single=1.05)
    slow = one(1.0, single=1.2)
    assert best([fast, better, smaller, slow], Wanted(0.9)) is smaller
    assert best([fast, better, slow], Wanted(0.9)) is better
    assert best([fast, slow], Wanted(0.9)) is fast
    assert best([fast, slow], Wanted(0.99)) is slow


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"recall": 0}, "recall: found 0; give a share, as 0.95"),
        ({"recall": 95}, "recall: found 95"),
        ({"recall": float("nan")}, "recall: found nan"),
        ({"recall": 0.9, "memory": 0}, "memory: found 0; it must be more than 0"),
        ({"recall": 0.9, "latency": -1.0}, "latency: found -1.0"),
    ],
)
def test_what_nobody_can_want(options, message):
    with pytest.raises(GalleryError, match=message):
        Wanted(**options)


def test_too_few_records_and_no_queries(small, tmp_path):
    with pytest.raises(GalleryError, match="has 50 records, too few to measure"):
        next(measured(built(tmp_path / "few", 50), Wanted(0.9)))
    with pytest.raises(GalleryError, match="no queries to measure with"):
        next(measured(small, Wanted(0.9), np.empty((0, DIM), np.float32)))
    other = Gallery.open(small.folder)
    other.manifest = small.manifest.model_copy(update={"backend": "pgvector"})
    with pytest.raises(GalleryError, match="backend is pgvector, and tuning chooses among indexes"):
        next(measured(other, Wanted(0.9)))
