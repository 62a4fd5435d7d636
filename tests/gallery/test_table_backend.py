"""TableBackend over an engine that is a dictionary, and that can be out of order."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msiam.errors import GalleryError, RecipeError
from msiam.gallery.drafts import drafts_folder
from msiam.gallery.table_backend import TableBackend
from msiam.gallery.vector_table import TableOptions, VectorTable
from msiam.registry.conformance.backend import check_backend
from msiam.registry.options import parse_options

DIM = 16


class Broken(Exception):
    """What the engine raises."""


class Dictionary(VectorTable[TableOptions]):
    """Tables in a dictionary. ``fails`` names the call at which the engine is gone."""

    failures = (Broken,)
    secrets = ("BIRDS_PASSWORD",)
    rows = 64

    tables: ClassVar[dict] = {}
    fails: ClassVar[set] = set()
    asked: ClassVar[list] = []

    def _do(self, what):
        if what in self.fails:
            raise Broken(f"no route\nto host, {os.environ.get('BIRDS_PASSWORD')}")

    def create(self):
        self._do("create")
        self.tables[self.name] = []

    def insert(self, start, vectors):
        self._do("insert")
        assert start == sum(map(len, self.tables[self.name])) and 0 < len(vectors) <= self.rows
        self.tables[self.name].append(vectors)

    def finish(self, count):
        self._do("finish")
        self.tables[self.name] = [np.concatenate(self.tables[self.name])]

    def publish(self):
        self._do("publish")

    def count(self):
        self._do("count")
        return len(self.tables[self.name][0]) if self.name in self.tables else None

    def nearest(self, queries, k, among):
        self._do("nearest")
        self.asked.append(k)
        products = queries @ self.tables[self.name][0].T
        last = np.arange(products.shape[1])[::-1]  # of equal scores, the last positions first
        positions = np.stack([np.lexsort((last, -row)) for row in products])[:, :k]
        return np.take_along_axis(products, positions, 1), positions.astype(np.int64)

    def drop(self):
        self._do("drop")
        self.tables.pop(self.name, None)


class Birds(TableBackend):
    name = "birds"
    table = Dictionary
    exact = True


OPTIONS = TableOptions(url="here")


@pytest.fixture(autouse=True)
def engine(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(Dictionary, "tables", {})
    monkeypatch.setattr(Dictionary, "fails", set())
    monkeypatch.setattr(Dictionary, "asked", [])


def unit(count, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(count, DIM)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def build(count=100):
    return Birds.build([unit(count)], DIM, OPTIONS)


def saved(path, count=100):
    index = build(count)
    index.save(path)
    return index


def notes():
    return list(drafts_folder().glob("*")) if drafts_folder().exists() else []


def test_conforms():
    check_backend(Birds, {"url": "here"})


def test_the_file_says_where_the_table_is(tmp_path):
    saved(tmp_path / "index")
    place = json.loads((tmp_path / "index").read_text())
    (table,) = Dictionary.tables
    assert place == {
        "backend": "birds",
        "options": {"url": "here"},
        "table": table,
        "count": 100,
        "dim": DIM,
    }
    again = Birds.open(tmp_path / "index", OPTIONS)
    assert (len(again), again.dim) == (100, DIM) and notes() == []


def test_discard_drops_the_table(tmp_path):
    saved(tmp_path / "one")
    saved(tmp_path / "two")
    Birds.discard(tmp_path / "one")
    assert len(Dictionary.tables) == 1
    assert len(Birds.open(tmp_path / "two", OPTIONS)) == 100
    Birds.discard(tmp_path / "one")  # it is gone already
    Birds.discard(tmp_path / "missing")
    assert len(Dictionary.tables) == 1 and notes() == []


def test_where_discard_cannot_the_next_build_drops_the_table(tmp_path):
    saved(tmp_path / "one")
    Dictionary.fails.add("drop")
    Birds.discard(tmp_path / "one")
    assert len(Dictionary.tables) == 1
    Dictionary.fails.clear()
    index = build()
    assert list(Dictionary.tables) == [index._table.name]


def test_what_was_never_saved_is_dropped():
    index = build()
    assert len(Dictionary.tables) == 1
    del index
    gc.collect()
    assert Dictionary.tables == {} and notes() == []


def test_what_was_saved_outlives_its_object(tmp_path):
    saved(tmp_path / "index")
    gc.collect()
    assert len(Dictionary.tables) == 1


@pytest.mark.parametrize("call", ["create", "insert", "finish"])
def test_an_engine_that_fails_in_a_build_keeps_no_table(call, tmp_path, monkeypatch):
    saved(tmp_path / "old")
    monkeypatch.setenv("BIRDS_PASSWORD", "hunter2")
    Dictionary.fails.add(call)
    with pytest.raises(
        GalleryError, match=r"^birds://here: table msiam_\w+: no route to host, "
    ) as e:
        build()
    assert "hunter2" not in str(e.value) and "($BIRDS_PASSWORD)" in str(e.value)
    assert len(Dictionary.tables) == 1
    assert len(Birds.open(tmp_path / "old", OPTIONS)) == 100


def test_an_engine_that_is_gone_for_good_keeps_its_table_until_the_next_build():
    Dictionary.fails |= {"insert", "drop"}
    with pytest.raises(GalleryError):
        build()
    assert len(Dictionary.tables) == 1
    Dictionary.fails.clear()
    index = build()
    assert list(Dictionary.tables) == [index._table.name]


def test_a_table_that_is_not_committed_after_all_is_dropped(tmp_path):
    index = build()
    Dictionary.fails.add("publish")
    with pytest.raises(GalleryError, match="no route"):
        index.save(tmp_path / "index")
    del index
    gc.collect()
    assert Dictionary.tables == {}


def test_whoever_makes_the_vectors_fails_with_his_own_error():
    def chunks():
        yield unit(200)
        raise Broken("out of memory")

    with pytest.raises(Broken, match=r"^out of memory$"):
        Birds.build(chunks(), DIM, OPTIONS)
    assert Dictionary.tables == {} and notes() == []


KILLED = """
import os, signal, sys
import numpy as np
sys.path.insert(0, {folder!r})
from test_table_backend import Birds, OPTIONS, unit

def chunks():
    yield unit(200)
    os.kill(os.getpid(), signal.SIGKILL)

Birds.build(chunks(), 16, OPTIONS)
"""


def test_the_table_of_a_builder_that_was_killed_is_dropped_by_the_next():
    code = KILLED.format(folder=os.path.dirname(__file__))  # noqa: PTH120
    done = subprocess.run([sys.executable, "-c", code])
    assert done.returncode == -signal.SIGKILL
    (note,) = notes()
    Dictionary.tables[json.loads(note.read_text())["table"]] = []
    index = build()
    assert list(Dictionary.tables) == [index._table.name]


def test_what_cannot_be_dropped_is_no_reason_not_to_build(tmp_path):
    Dictionary.fails |= {"insert", "drop"}
    with pytest.raises(GalleryError):
        build()
    Dictionary.fails.remove("insert")
    saved(tmp_path / "index")
    assert len(Dictionary.tables) == 2 and len(notes()) == 1


def test_nor_is_the_note_of_another_version_with_options_that_are_no_more(tmp_path):
    Dictionary.fails |= {"insert", "drop"}
    with pytest.raises(GalleryError):
        build()
    Dictionary.fails.clear()
    (note,) = notes()
    note.write_text(note.read_text().replace('"url"', '"shards": 3, "url"'))
    saved(tmp_path / "index")
    assert notes() == [note]


def test_a_table_that_is_gone_or_has_changed_is_refused(tmp_path):
    path = tmp_path / "index"
    saved(path)
    (name,) = Dictionary.tables
    Dictionary.tables[name] = [unit(99)]
    with pytest.raises(GalleryError, match=rf"birds://here: table {name}: has 99 vectors, and"):
        Birds.open(path, OPTIONS)
    del Dictionary.tables[name]
    with pytest.raises(GalleryError, match=rf"table {name}: there is no such table"):
        Birds.open(path, OPTIONS)
    Dictionary.fails.add("count")
    with pytest.raises(GalleryError, match=rf"table {name}: no route to host"):
        Birds.open(path, OPTIONS)


def test_a_gallery_that_is_replaced_while_it_is_opened_is_no_error_but_a_missing_file(
    tmp_path, monkeypatch
):
    path = tmp_path / "index"
    saved(path)

    def gone(self):
        path.unlink()

    monkeypatch.setattr(Dictionary, "count", gone)
    with pytest.raises(FileNotFoundError):
        Birds.open(path, OPTIONS)


@pytest.mark.parametrize(
    "text",
    ["", "{}", '{"backend": "birds"', "null",
     '{"backend": "birds", "url": "", "table": "users; DROP", "count": 1, "dim": 1}'],
)  # fmt: skip
def test_a_file_that_is_none_of_ours(tmp_path, text):
    (tmp_path / "index").write_text(text)
    with pytest.raises(GalleryError, match="says of no table where it is") as caught:
        Birds.open(tmp_path / "index", OPTIONS)
    assert "\n" not in str(caught.value)


def test_a_table_of_another_backend(tmp_path):
    class Fish(Birds):
        name = "fish"

    saved(tmp_path / "index")
    with pytest.raises(GalleryError, match="its table is one of birds, not of fish"):
        Fish.open(tmp_path / "index", OPTIONS)


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(1, 60), distinct=st.integers(1, 4), k=st.integers(1, 70), seed=st.integers(0)
)
def test_equal_scores_come_by_position_though_the_engine_gives_them_as_it_likes(
    count, distinct, k, seed
):
    rng = np.random.default_rng(seed)
    vectors = np.eye(DIM, dtype=np.float32)[rng.integers(0, distinct, count)]
    queries = np.arange(1, DIM + 1, dtype=np.float32)[None] + np.zeros((2, 1), np.float32)
    scores, positions = Birds.build([vectors], DIM, OPTIONS).search(queries, k)
    products = (queries @ vectors.T)[0]
    best = np.lexsort((np.arange(count), -products))[:k]
    for row in range(2):
        assert positions[row, : len(best)].tolist() == best.tolist()
        assert scores[row, : len(best)].tolist() == products[best].tolist()
        assert (positions[row, len(best) :] == -1).all()


def test_without_ties_the_engine_is_asked_once_and_for_one_more():
    index = build()
    index.search(unit(3, seed=9), 5)
    assert Dictionary.asked == [6]


def test_more_than_the_engine_gives_at_once_is_refused(monkeypatch):
    monkeypatch.setattr(Dictionary, "most", 20)
    index = build()
    assert (index.search(unit(1), 20)[1] >= 0).all()
    with pytest.raises(GalleryError, match=r"k: found 21, and birds://here.* gives 20 at most"):
        index.search(unit(1), 21)


def test_a_search_among_some_positions_is_refused_where_the_engine_has_none():
    index = build()
    assert index.filters is False
    with pytest.raises(GalleryError, match="does not search among"):
        index.search(unit(1), 1, among=np.ones(100, bool))


def test_a_search_that_the_engine_refuses(monkeypatch):
    index = build()
    Dictionary.fails.add("nearest")
    with pytest.raises(GalleryError, match="no route to host") as caught:
        index.search(unit(1), 1)
    assert "\n" not in str(caught.value)
    Dictionary.fails.clear()
    assert index.search(unit(1), 1)[1].tolist() == [[0]]


def test_an_option_with_a_password_is_refused_and_not_repeated():
    with pytest.raises(RecipeError, match="holds a password") as caught:
        parse_options(Birds, {"url": "me:hunter2@here"}, "backend birds")
    assert "hunter2" not in str(caught.value)
