"""The backend on LanceDB's tables in a folder, and on a builder that is killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("lancedb")

import lancedb
from msiam_lancedb.backend import LanceBackend
from several_tables import change_and_compact

from msiam.errors import GalleryError, RecipeError
from msiam.gallery.gallery import Gallery
from msiam.registry.conformance import check_backend
from msiam.registry.options import parse_options

DIM = 16


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def url(tmp_path):
    return str(tmp_path / "tables")


def options(**given):
    return parse_options(LanceBackend, given, "backend lancedb")


def unit(count, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(count, DIM)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def tables(url):
    return sorted(lancedb.connect(url).list_tables().tables)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"index": "IVF_FLAT", "lists": 5, "probes": 3},
        {"index": "IVF_PQ", "lists": 1, "refine": 5},
        {"index": "IVF_HNSW_SQ", "lists": 1, "ef_search": 50},
    ],
)
def test_conforms(url, more):
    check_backend(LanceBackend, {"url": url, **more})


def test_an_index_is_built_and_searched_as_its_options_say(url):
    vectors, queries = unit(2000), unit(40, seed=1)
    best = np.argsort(-(queries @ vectors.T), axis=1)[:, :10]

    def recall(**more):
        given = options(url=url, index="IVF_FLAT", lists=16, **more)
        index = LanceBackend.build([vectors], DIM, given)
        assert not index.exact
        _, found = index.search(queries, 10)
        return np.mean([len(np.intersect1d(a, b)) for a, b in zip(found, best, strict=True)]) / 10

    assert recall(probes=1) < 0.8 < recall(probes=8) <= recall(probes=16) == 1


@pytest.mark.parametrize("k", [1, 3, 12, 20, 25])
def test_equal_scores_come_in_the_order_of_positions(url, k):
    vectors = np.repeat(np.eye(2, DIM, dtype=np.float32), 10, axis=0)
    index = LanceBackend.build([vectors[:7], vectors[7:]], DIM, options(url=url))
    for queries in (vectors[:1], vectors[[0, 0, 1]]):
        _, positions = index.search(queries, k)
        assert positions[0][:20].tolist() == list(range(min(k, 20)))


def test_a_folder_is_noted_by_its_whole_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert options(url="tables").url == str(tmp_path / "tables")
    assert options(url="s3://bucket/tables").url == "s3://bucket/tables"
    with pytest.raises(RecipeError, match="holds a password"):
        options(url="s3://key:secret@bucket/tables")


def test_a_gallery_and_the_next_one_in_its_place(toy, tmp_path, url):
    for version in (1, 2):
        Gallery.build(
            toy.Toy(), toy.table(version), "text", tmp_path / "g", id="sku",
            backend=f"lancedb://{url}",
        )  # fmt: skip
        gallery = Gallery.open(tmp_path / "g", toy.Toy())
        assert gallery.search(f"{version}/7", k=1)[0].id == "s7"


def test_tables_that_are_gone(url, tmp_path):
    index = LanceBackend.build([unit(30)], DIM, options(url=url))
    index.save(tmp_path / "index")
    shutil.rmtree(url)
    with pytest.raises(GalleryError, match=rf"^lancedb://{url}: table msiam_\w+: there is no such"):
        LanceBackend.open(tmp_path / "index", options(url=url))
    with pytest.raises(GalleryError, match=rf"^lancedb://{url}: table msiam_\w+: ") as caught:
        index.search(unit(1), 3)
    assert "\n" not in str(caught.value)
    LanceBackend.discard(tmp_path / "index")


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(GalleryError, match=r"^lancedb://.*file/tables: table msiam_") as caught:
        LanceBackend.build([unit(3)], DIM, options(url=str(tmp_path / "file" / "tables")))
    assert "\n" not in str(caught.value)


KILLED = """
import os, signal, sys
import numpy as np
from msiam_lancedb.backend import LanceBackend

def chunks():
    yield np.ones((70_000, 16), np.float32)
    yield np.ones((70_000, 16), np.float32)
    os.kill(os.getpid(), signal.SIGKILL)

LanceBackend.build(chunks(), 16, LanceBackend.Options(url=sys.argv[1]))
"""


def test_what_a_killed_builder_left_is_dropped_by_the_next_and_nothing_else(url, tmp_path):
    old = LanceBackend.build([unit(30)], DIM, options(url=url))
    old.save(tmp_path / "old")
    lancedb.connect(url).create_table("somebody_elses", [{"a": 1}])
    before = tables(url)
    done = subprocess.run([sys.executable, "-c", KILLED, url], env={**os.environ})
    assert done.returncode == -signal.SIGKILL
    assert len(tables(url)) == len(before) + 1
    new = LanceBackend.build([unit(30)], DIM, options(url=url))
    new.save(tmp_path / "new")
    assert len(tables(url)) == len(before) + 1 and set(before) < set(tables(url))
    again = LanceBackend.open(tmp_path / "old", options(url=url))
    assert again.search(unit(1), 1)[1].tolist() == [[0]]
    LanceBackend.discard(tmp_path / "new")
    assert tables(url) == before


def test_a_gallery_of_several_tables(url, toy, tmp_path):
    gallery = change_and_compact("lancedb", {"url": url}, lambda: tables(url), toy, tmp_path / "g")
    assert len(list(gallery.folder.glob("vectors-*"))) == 1
