from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import datasets
import numpy as np
import pytest

from msiam.errors import GalleryError, MsiamError, RecipeError, RunError
from msiam.gallery import building
from msiam.gallery.gallery import Gallery
from msiam.gallery.manifest import writing

ROWS = [{"sku": f"s{n}", "text": f"text {n}"} for n in range(5)]


def files(folder):
    return sorted(path.name.partition("-")[0] for path in folder.iterdir())


WHOLE = [".lock", "catalogue", "index", "manifest.json"]


def test_the_manifest_says_what_the_gallery_is(toy, tmp_path):
    (tmp_path / "run").mkdir()
    folder = tmp_path / "galleries" / "one"
    gallery = Gallery.build(
        toy.Toy(), ROWS, column="text", folder=folder, id="sku", run=tmp_path / "run"
    )
    found = gallery.manifest
    assert (found.count, found.dim, found.column, found.id) == (5, 16, "text", "sku")
    assert (found.backend, found.options) == ("faiss", {"factory": "Flat"})
    assert found.fingerprint == "made by toy"
    assert found.run == "../../run" and gallery.run == tmp_path / "run"
    assert found.root is None and gallery.root is None
    for stored in (found.catalogue, found.index):
        assert (folder / stored.name).stat().st_size == stored.size
    assert files(folder) == WHOLE


def test_a_gallery_and_its_run_may_move_together(toy, tmp_path):
    for name in ("there", "there/run", "here"):
        (tmp_path / name).mkdir()
    Gallery.build(
        toy.Toy(), ROWS, "text", tmp_path / "there" / "gallery", run=tmp_path / "there" / "run"
    )
    (tmp_path / "there").rename(tmp_path / "here" / "moved")
    gallery = Gallery.open(tmp_path / "here" / "moved" / "gallery")
    assert gallery.run == tmp_path / "here" / "moved" / "run"


def test_a_file_with_pictures_beside_it(toy, tmp_path):
    for name in ("red", "blue"):
        (tmp_path / f"{name}.png").write_bytes(name.encode())
    (tmp_path / "t.csv").write_text("text,image\nr,red.png\nb,blue.png\n")
    model = toy.Toy()
    gallery = Gallery.build(model, tmp_path / "t.csv", column="image", folder=tmp_path / "gallery")
    assert model.calls == [("image", ["red.png", "blue.png"], tmp_path)]
    assert gallery.root == tmp_path
    assert [hit.record for hit in gallery.search("red.png", k=1)] == [
        {"text": "r", "image": "red.png"}
    ]


def test_rows_that_cannot_be_read_are_set_aside_and_the_others_keep_their_ids(
    toy, tmp_path, monkeypatch
):
    monkeypatch.setattr(building, "ROWS", 3)
    bad = {0, 3, 4, 5, 10}  # the second chunk has no good row at all
    rows = [{"text": "" if n in bad else f"text {n}", "n": n} for n in range(11)]
    counted = []
    gallery = Gallery.build(
        toy.Toy(), rows, column="text", folder=tmp_path / "g", progress=counted.append
    )
    assert gallery.rejected == [(row, "is empty") for row in sorted(bad)]
    assert len(gallery) == 6 and counted == [3, 3, 3, 2]
    for n in sorted(set(range(11)) - bad):
        hit = gallery.search(f"text {n}", k=1)[0]
        assert (hit.id, hit.record["n"], round(hit.score, 5)) == (str(n), n, 1)


def test_pictures_come_in_chunks_and_are_not_kept(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(building, "ROWS", 2)
    pictures = [{"bytes": b"pixels %d" % n, "path": f"{n}.png"} for n in range(5)]
    features = datasets.Features({"image": datasets.Image(decode=False)})
    table = datasets.Dataset.from_dict({"image": pictures}, features=features)
    model = toy.Toy()
    gallery = Gallery.build(model, table, column="image", folder=tmp_path / "g")
    assert [len(items) for _, items, _ in model.calls] == [2, 2, 1]
    assert gallery.search({"bytes": b"pixels 3", "path": None}, k=1)[0].record == {"image": "3.png"}
    assert b"pixels" not in next((tmp_path / "g").glob("catalogue*")).read_bytes()


def test_building_again_replaces_the_gallery_and_leaves_nothing_of_the_old_one(toy, tmp_path):
    for count in (5, 2):
        gallery = Gallery.build(toy.Toy(), ROWS[:count], column="text", folder=tmp_path / "g")
        assert len(gallery) == count and files(tmp_path / "g") == WHOLE


def changed(toy, change):
    """A toy whose vectors are changed before anybody sees them."""
    model = toy.Toy()
    embed = model.embed

    def embed_changed(*arguments, **options):
        vectors, rejected = embed(*arguments, **options)
        return change(vectors), rejected

    model.embed = embed_changed
    return model


def with_nan(vectors):
    vectors[3, 1] = np.nan
    return vectors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"table": []}, "has no rows"),
        ({"column": "txt"}, "the model has no column 'txt'; did you mean 'text'"),
        ({"column": "image"}, "no column 'image'"),
        ({"id": "skuu"}, "no column 'skuu'; did you mean 'sku'"),
        ({"table": [*ROWS, ROWS[1]]}, "rows 1 and 5 have the same 'sku', 's1'"),
        (
            {"table": [{"sku": "a", "text": ""}]},
            "none of its 1 rows can be embedded; row 0: is empty",
        ),
        ({"backend": "fais"}, "no backend 'fais'; did you mean 'faiss'"),
        (
            {"options": {"factori": "Flat"}},
            "backend faiss.*factori: no such key; did you mean 'factory'",
        ),
        ({"options": {"factory": "Flt"}}, "FAISS index 'Flt': FAISS refuses it"),
        ({"table": "nowhere.csv"}, "nowhere.csv"),
    ],
)
def test_bad_input_is_one_line_and_leaves_the_old_gallery(toy, tmp_path, arguments, message):
    build = {"table": ROWS, "column": "text", "folder": tmp_path / "g", "id": "sku"}
    before = Gallery.build(toy.Toy(), **build).manifest
    with pytest.raises(MsiamError, match=message) as caught:
        Gallery.build(toy.Toy(), **{**build, **arguments})
    assert "\n" not in str(caught.value)
    assert Gallery.open(tmp_path / "g").manifest == before
    assert files(tmp_path / "g") == WHOLE


def test_bad_input_makes_no_folder(toy, tmp_path):
    with pytest.raises(GalleryError):
        Gallery.build(toy.Toy(), [*ROWS, ROWS[0]], "text", tmp_path / "g", id="sku")
    with pytest.raises(RecipeError):
        Gallery.build(toy.Toy(), ROWS, "text", tmp_path / "g", options={"x": 1})
    assert not (tmp_path / "g").exists()


def test_an_embedding_with_nan_names_its_row(toy, tmp_path):
    rows = [{"text": ""}, *ROWS]
    with pytest.raises(GalleryError, match="row 4: the model's embedding holds NaN"):
        Gallery.build(changed(toy, with_nan), rows, column="text", folder=tmp_path / "g")


def test_a_full_disk_leaves_the_old_gallery(toy, tmp_path):
    before = Gallery.build(toy.Toy(), ROWS, column="text", folder=tmp_path / "g").manifest
    many = [{"text": f"text {n}"} for n in range(3000)]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (3_000, 60_000, 170_000):  # the catalogue's first rows, all its rows, the index
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            with pytest.raises(RunError, match="no room to write it"):
                Gallery.build(toy.Toy(), many, column="text", folder=tmp_path / "g")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert Gallery.open(tmp_path / "g").manifest == before
        assert files(tmp_path / "g") == WHOLE


# Real processes: see toy.py.


@pytest.fixture(scope="module")
def server(toy):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, str(toy.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        yield process
        process.stdin.close()


def start(server, *command):
    print(*command, file=server.stdin, flush=True)
    return int(server.stdout.readline())


def end(server):
    return int(server.stdout.readline())


def whole(folder, toy):
    """Open a gallery and check that its files are of one generation; its version."""
    gallery = Gallery.open(folder, toy.Toy())
    version = gallery.search_vectors(np.ones((1, 16)), 1)[0][0].record["version"]
    found = gallery.search([row["text"] for row in toy.table(version)], k=1)
    assert [hits[0].id for hits in found] == [f"s{row}" for row in range(toy.ROWS)]
    assert all(hits[0].score > 0.999 for hits in found)
    return version


def test_killed_at_every_step_it_leaves_the_old_gallery_or_the_new_one(toy, server, tmp_path):
    outcomes = []
    toy.build(tmp_path / "old", 1)
    for step in range(1, 100):
        folder = shutil.copytree(tmp_path / "old", tmp_path / f"old{step}")
        start(server, "die", folder, step)
        code = end(server)
        outcomes.append(whole(folder, toy))
        with writing(folder):
            assert files(folder) == WHOLE, f"the next writer left drafts of step {step}"
        if code == 0:
            break
        assert code == -signal.SIGKILL
    assert len(outcomes) > 15 and outcomes == sorted(outcomes) and set(outcomes) == {1, 2}


def test_killed_at_every_step_of_the_first_build_it_leaves_a_gallery_or_none(toy, server, tmp_path):
    outcomes = []
    for step in range(1, 100):
        folder = tmp_path / f"new{step}"
        start(server, "die", folder, step)
        code = end(server)
        try:
            outcomes.append(whole(folder, toy))
        except GalleryError as error:
            assert "is no gallery" in str(error)
            outcomes.append(0)
        with writing(folder):
            assert files(folder) in (WHOLE, [".lock"])
        if code == 0:
            break
    assert len(outcomes) > 10 and outcomes == sorted(outcomes) and set(outcomes) == {0, 2}


def test_killed_at_random_moments_it_leaves_a_whole_gallery(toy, server, tmp_path):
    folder = tmp_path / "g"
    toy.build(folder, 0)
    begun = time.monotonic()
    start(server, "die", folder, 0)
    assert end(server) == 0
    one_rebuild = time.monotonic() - begun
    chance = random.Random(0)
    versions = []
    for _ in range(25):
        pid = start(server, "loop", folder)
        time.sleep(chance.uniform(0, 2 * one_rebuild))
        os.kill(pid, signal.SIGKILL)
        assert end(server) == -signal.SIGKILL
        versions.append(whole(folder, toy))
    assert len(set(versions)) > 1
    toy.build(folder, 1)
    assert files(folder) == WHOLE


def test_a_reader_sees_whole_galleries_while_a_writer_replaces_them(toy, server, tmp_path):
    folder = tmp_path / "g"
    toy.build(folder, 0)
    pid = start(server, "loop", folder)
    try:
        versions = [whole(folder, toy) for _ in range(60)]
    finally:
        os.kill(pid, signal.SIGKILL)
        end(server)
    assert versions == sorted(versions) and len(set(versions)) > 2


def test_a_second_process_is_refused_while_one_writes(toy, server, tmp_path):
    codes = []

    def meanwhile(vectors):
        start(server, "die", tmp_path / "g", 0)
        codes.append(end(server))
        return vectors

    Gallery.build(changed(toy, meanwhile), ROWS, column="text", folder=tmp_path / "g")
    assert codes == [2]
    assert "another process is writing this gallery" in server.stderr.readline()
    assert len(Gallery.open(Path(tmp_path) / "g")) == 5
