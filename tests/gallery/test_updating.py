"""Galleries that change: what is found afterwards is what a gallery of those records finds."""

from __future__ import annotations

import ctypes
import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from msiam.errors import DataError, GalleryError, MsiamError
from msiam.gallery.faiss_backend import FaissBackend
from msiam.gallery.gallery import Gallery
from msiam.gallery.writing import writing


def rows(start, end, version=0):
    return [
        {"sku": f"s{n}", "text": f"{version}/{n}", "version": version} for n in range(start, end)
    ]


@pytest.fixture
def make(toy, tmp_path):
    def build(table, **options):
        return Gallery.build(toy.Toy(), table, "text", tmp_path / "g", id="sku", **options)

    return build


def held(gallery):
    """Each record's id, and its text."""
    return {
        id: record["text"]
        for batch in gallery.batches()
        for id, record in zip(*(c.to_pylist() for c in batch.columns), strict=True)
    }


def check(gallery, toy, expected):
    """It holds these texts by id, searches them exactly, and so does whoever opens it now."""
    again = Gallery.open(gallery.folder, toy.Toy())
    assert again.manifest == gallery.manifest
    queries = np.random.default_rng(3).normal(size=(4, toy.DIM)).astype(np.float32)
    names = list(expected)
    vectors = np.array([toy.unit(expected[name]) for name in names]).reshape(-1, toy.DIM)
    best = np.sort(-(queries @ vectors.T), axis=1)[:, :7]
    for found in (gallery, again):
        assert held(found) == expected and len(found) == len(expected)
        places = found.find(names)
        assert [id for id, _ in found.records(places)] == names
        np.testing.assert_array_equal(found.vectors(places), vectors)
        np.testing.assert_allclose(found.nearest(queries, 7, exact=True)[0], -best, atol=1e-5)
        among = np.zeros(len(found), bool)
        among[places[::2]] = True
        hits = found.nearest(queries, len(names) or 1, among=among)[1]
        assert set(hits[hits >= 0].tolist()) == (set(places[::2].tolist()) if len(names) else set())


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_whatever_is_done_in_whatever_order(toy, tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("any") / "g"
    factory = data.draw(st.sampled_from(["Flat", "HNSW4", "IVF2,PQ4x4fs"]))
    gallery = Gallery.build(
        toy.Toy(), rows(0, 40), "text", folder, id="sku", options={"factory": factory}
    )
    expected = {row["sku"]: row["text"] for row in rows(0, 40)}
    for version in range(1, data.draw(st.integers(2, 6))):
        kind = data.draw(st.sampled_from(["add", "upsert", "remove", "compact"]))
        start = data.draw(st.integers(0, 60))
        table = rows(start, start + data.draw(st.integers(1, 30)), version)
        if kind == "add":
            table = [row for row in table if row["sku"] not in expected]
        if kind in ("add", "upsert") and table:
            getattr(gallery, kind)(table)
            expected |= {row["sku"]: row["text"] for row in table}
        elif kind == "remove":
            there = [row["sku"] for row in table if row["sku"] in expected]
            assert gallery.remove([row["sku"] for row in table], missing_ok=True) == len(there)
            expected = {k: v for k, v in expected.items() if k not in there}
        elif kind == "compact" and (len(expected) > 20 or factory != "IVF2,PQ4x4fs"):
            gallery.compact()
            assert len(gallery.manifest.segments) == bool(expected)
        check(gallery, toy, expected)


def test_a_gallery_that_is_open_stays_as_it_was_while_others_change_it(toy, make):
    make(rows(0, 50), options={"factory": "IVF4,PQ4x4fs"})
    reader = Gallery.open(make(rows(0, 50)).folder, toy.Toy())
    writer = Gallery.open(reader.folder, toy.Toy())
    before = held(reader)
    writer.upsert(rows(10, 60, version=1))
    writer.remove(["s0"])
    writer.compact()
    assert held(reader) == before and len(reader) == 50
    assert reader.search("0/12", k=1)[0].record["text"] == "0/12"
    assert len(reader.vectors(np.arange(50))) == 50
    reader.renew()
    assert held(reader) == held(writer) and len(reader) == 59
    assert reader.search("1/12", k=1)[0].id == "s12"


def recall(gallery, queries):
    found, exact = (gallery.nearest(queries, 10, exact=exact) for exact in (False, True))
    assert (found[1] >= 0).all() and (np.diff(found[0], axis=1) <= 0).all()
    shared = [len(np.intersect1d(a, b)) for a, b in zip(found[1], exact[1], strict=True)]
    return sum(shared) / exact[1].size


@pytest.mark.parametrize(
    "options",
    [{"factory": "HNSW8"}, {"factory": "IVF8,PQ8x4fs", "nprobe": 5}, {"factory": "Flat"}],
    ids=lambda options: options["factory"],
)
def test_the_dead_do_not_cost_recall(toy, make, options):
    gallery = make(rows(0, 400), options=options)
    queries = np.random.default_rng(0).normal(size=(100, toy.DIM)).astype(np.float32)
    before = recall(gallery, queries)
    dead = np.unique(gallery.nearest(queries, 2)[1])  # the very ones that would be found
    assert len(dead) > 120
    gallery.remove([id for id, _ in gallery.records(dead)])
    assert recall(gallery, queries) > before - 0.03


def test_a_few_more_records_are_gone_through_and_many_get_the_index(toy, make, monkeypatch):
    gallery = make(rows(0, 100), options={"factory": "HNSW8"})
    gallery.add(rows(100, 140))
    monkeypatch.setattr("msiam.gallery.faiss_backend.FLAT", 49)
    gallery.add(rows(140, 190))
    factories = [segment.options["factory"] for segment in gallery.manifest.segments]
    assert factories == ["HNSW8", "HNSW8"]  # the small one was merged with the last
    gallery.compact()
    assert [s.options["factory"] for s in gallery.manifest.segments] == ["HNSW8"]
    assert FaissBackend.options_for("its own", 50) == "its own"


def test_however_often_a_few_are_added_there_are_few_segments(toy, make):
    gallery = make(rows(0, 20))
    for n in range(20, 60):
        gallery.add(rows(n, n + 1))
        assert len(gallery.manifest.segments) <= 6
    check(gallery, toy, {row["sku"]: row["text"] for row in rows(0, 60)})
    left = {path.name for path in gallery.folder.iterdir()}
    assert left == {s.name for s in gallery.manifest.files} | {".lock", "manifest.json"}


def test_an_empty_gallery(toy, make):
    gallery = make(rows(0, 5))
    gallery.remove([f"s{n}" for n in range(5)])
    for found in (gallery, Gallery.open(gallery.folder, toy.Toy())):
        assert len(found) == 0 and found.manifest.segments == []
        assert found.search("0/1", k=3) == [] and found.search(["a", "b"], k=1) == [[], []]
        assert [part.shape for part in found.nearest(np.ones((2, 16)), 4)] == [(2, 0), (2, 0)]
        assert found.nearest(np.ones((2, 16)), 4, among=np.empty(0, bool))[1].shape == (2, 0)
        assert list(found.batches()) == [] and list(found.all_vectors()) == []
        assert found.find(["s0"]).tolist() == [-1]
        assert found.vectors(np.empty(0, np.int64)).shape == (0, 16)
        found.compact()
    gallery.add(rows(3, 6))
    check(gallery, toy, {row["sku"]: row["text"] for row in rows(3, 6)})


def test_records_have_the_columns_of_all_tables(toy, make):
    gallery = make([{"sku": "a", "text": "x", "price": 3, "none": None}])
    gallery.add([{"sku": "b", "text": "y", "price": 2.5, "colour": "red", "none": "now"}])
    gallery.add([{"sku": "c", "text": "z"}])
    empty = {"price": None, "none": None, "colour": None}
    expected = [
        ("a", {**empty, "text": "x", "price": 3.0}),
        ("b", {"text": "y", "price": 2.5, "colour": "red", "none": "now"}),
        ("c", {**empty, "text": "z"}),
    ]
    for _ in range(2):
        assert gallery.records(gallery.find(["a", "b", "c"])) == expected
        assert [hit.record for hit in gallery.search("z", k=1)] == [expected[2][1]]
        gallery.compact()


def test_ids_may_stand_in_another_column(toy, make):
    gallery = make(rows(0, 3))
    gallery.add([{"key": 7, "text": "seven"}], id="key")
    assert gallery.search("seven", k=1)[0].id == "7"


def test_vectors_may_be_given(toy, make):
    gallery = Gallery.open(make(rows(0, 3)).folder)
    vectors = np.eye(2, 16, dtype=np.float32)
    gallery.upsert([{"sku": "s1", "text": "?"}, {"sku": "n", "text": "?"}], vectors=vectors)
    np.testing.assert_array_equal(gallery.vectors(gallery.find(["s1", "n"])), vectors)
    assert len(gallery) == 4
    with pytest.raises(GalleryError, match=r"opened without a model; .*, or give vectors"):
        gallery.add([{"sku": "x", "text": "?"}])


def test_what_cannot_be_embedded_is_set_aside_and_its_record_stays(toy, make):
    gallery = make(rows(0, 3))
    gallery.upsert([{"sku": "s1", "text": ""}, {"sku": "s2", "text": "new"}])
    assert gallery.rejected == [(0, "is empty")]
    assert held(gallery) == {"s0": "0/0", "s1": "0/1", "s2": "new"}
    before = gallery.manifest
    gallery.upsert([{"sku": "s1", "text": ""}])
    assert gallery.manifest == before and gallery.rejected == [(0, "is empty")]


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        ([{"sku": "s1", "text": "x"}], {}, "row 0: .* has a record 's1' already; upsert replaces"),
        ([{"sku": "n", "text": "x"}, {"sku": "n", "text": "y"}], {}, "rows 0 and 1 have the same"),
        ([{"sku": None, "text": "x"}], {}, "row 0 has no 'sku'"),
        ([{"text": "x"}], {}, "no column 'sku'"),
        ([{"sku": "n"}], {}, "no column 'text'"),
        ([{"sku": "n", "text": "x", "version": "two"}], {}, "column 'version': found string, and"),
        ([{"sku": "n", "text": "x"}], {"vectors": np.ones((2, 16))}, "has 1 rows, and there are 2"),
        ([{"sku": "n", "text": "x"}], {"vectors": np.ones((1, 3))}, r"found shape \(1, 3\)"),
        ([{"sku": "n", "text": "x"}], {"vectors": np.zeros((1, 16))}, "vector of row 0 is zero"),
        ([{"sku": "n", "text": "x"}], {"vectors": np.full((1, 16), np.nan)}, "row 0 holds NaN"),
        ("nowhere.csv", {}, "nowhere.csv"),
    ],
)
def test_bad_input_is_one_line_and_changes_nothing(toy, make, table, options, message):
    gallery = make(rows(0, 3))
    files = sorted(path.name for path in gallery.folder.iterdir())
    with pytest.raises(MsiamError, match=message) as caught:
        gallery.add(table, **options)
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in gallery.folder.iterdir()) == files
    check(gallery, toy, {row["sku"]: row["text"] for row in rows(0, 3)})


def test_a_filter_is_asked_of_the_newest_records(toy, make):
    gallery = make([{"sku": f"s{n}", "text": f"t{n}", "price": n} for n in range(4)])
    other = Gallery.open(gallery.folder, toy.Toy())
    other.upsert([{"sku": "s0", "text": "t0", "price": 9}, {"sku": "s9", "text": "t9", "price": 0}])
    assert gallery.remove(where="price < 2") == 2
    assert held(gallery) == {"s0": "t0", "s2": "t2", "s3": "t3"}
    assert gallery.remove(where="price < 2") == 0
    with pytest.raises(GalleryError, match="prize"):
        gallery.remove(where="prize < 2")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"ids": "12"}, "ids: found '12'; give a list of texts"),
        ({"ids": [12]}, r"ids: found \[12\]; give a list of texts"),
        ({}, "give ids, or a filter"),
        ({"ids": ["1"], "where": "price < 2"}, "give ids, or a filter"),
    ],
)
def test_what_to_remove_is_said_once_and_in_texts(make, given, message):
    gallery = make(
        [{"sku": "1", "text": "a"}, {"sku": "2", "text": "b"}, {"sku": "12", "text": "c"}]
    )
    with pytest.raises(GalleryError, match=message):
        gallery.remove(**given, missing_ok=True)
    assert len(gallery) == 3


def test_other_bad_input(toy, make, tmp_path):
    gallery = make(rows(0, 3))
    with pytest.raises(GalleryError, match="has no record 's9', so none was removed"):
        gallery.remove(["s1", "s9"])
    assert len(Gallery.open(gallery.folder)) == 3
    gallery.model = toy.Toy("other")
    with pytest.raises(GalleryError, match="another model made it"):
        gallery.upsert(rows(0, 1))
    numbered = Gallery.build(toy.Toy(), [{"text": "x"}], "text", tmp_path / "numbered")
    with pytest.raises(GalleryError, match="its ids are row numbers"):
        numbered.add([{"text": "y"}])
    numbered.add([{"text": "y", "key": "k"}], id="key")
    assert held(numbered) == {"0": "x", "k": "y"}
    with pytest.raises(DataError):
        gallery.add(tmp_path / "missing.csv")
    gone = Gallery(tmp_path / "gone", gallery.manifest, gallery._segments)
    for change in (lambda: gone.remove(["s1"]), gone.compact, lambda: gone.add(rows(7, 8))):
        with pytest.raises(GalleryError, match="there is no such folder"):
            change()
    assert not (tmp_path / "gone").exists()


@pytest.fixture
def parts(toy, make):
    """A gallery with a file of each kind: two segments, raw vectors, and dead records."""
    gallery = make(rows(0, 300), options={"factory": "IVF4,PQ4x4fs"})
    gallery.upsert(rows(299, 310, version=1))
    kinds = {path.name.partition("-")[0] for path in gallery.folder.iterdir()}
    assert kinds == {".lock", "manifest.json", "catalogue", "index", "vectors", "dead"}
    return gallery


@pytest.mark.parametrize("kind", ["catalogue", "index", "vectors", "dead"])
def test_a_damaged_file_of_any_segment_is_named(parts, kind):
    for path in parts.folder.glob(f"{kind}-*"):
        raw = path.read_bytes()
        for changed in (raw[:-1], raw + b"x"):
            path.write_bytes(changed)
            with pytest.raises(GalleryError, match=rf"{path.name}: has \d+ bytes and had"):
                Gallery.open(parts.folder)
        path.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
        with pytest.raises(GalleryError, match=f"{path.name}: has changed"):
            Gallery.open(parts.folder)
        for change in (parts.compact, lambda: parts.remove(["s1"])):
            with pytest.raises(GalleryError, match=path.name):
                change()
        path.rename(path.with_suffix(".away"))
        with pytest.raises(GalleryError, match=f"{path.name}: is missing"):
            Gallery.open(parts.folder)
        path.with_suffix(".away").rename(path)
        path.write_bytes(raw)
    Gallery.open(parts.folder).check()


def test_check_reads_all_of_a_long_file(make, monkeypatch):
    monkeypatch.setattr("msiam.gallery.stored.WHOLE", 10_000)
    monkeypatch.setattr("msiam.gallery.stored.BLOCKS", 4)
    monkeypatch.setattr("msiam.gallery.stored.BLOCK", 100)
    folder = make(rows(0, 300), options={"factory": "IVF4,PQ4x4fs"}).folder
    path = next(folder.glob("vectors-*"))
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    opened = Gallery.open(folder)
    with pytest.raises(GalleryError, match=f"{path.name}: has changed since it was written"):
        opened.check()
    path.unlink()
    with pytest.raises(GalleryError, match=f"{path.name}: is gone"):
        opened.check()


def test_a_read_only_folder(toy, make, tmp_path):
    gallery = make(rows(0, 5))
    gallery.folder.chmod(0o555)
    pid = os.fork()
    if pid == 0:  # root may write anywhere, and so a process that gives its rights away asks
        code = 1
        try:
            give_rights_away()
            assert len(Gallery.open(gallery.folder)) == 5
            for change in (lambda: gallery.remove(["s1"]), gallery.compact):
                with pytest.raises(GalleryError, match=r"g: cannot be written \(Permission denied"):
                    change()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    gallery.folder.chmod(0o755)
    assert gallery.remove(["s1"]) == 1


def give_rights_away():
    """Drop all capabilities of Linux, so that a file's own permissions hold for root too."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    if ctypes.CDLL(None, use_errno=True).capset(header, (ctypes.c_uint32 * 6)()) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def test_a_second_writer_is_told(toy, make):
    gallery = make(rows(0, 3))
    with writing(gallery.folder):
        for change in (lambda: gallery.remove(["s1"]), gallery.compact):
            with pytest.raises(GalleryError, match="another process is writing this gallery"):
                change()
    assert gallery.remove(["s1"]) == 1
