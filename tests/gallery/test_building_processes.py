"""Galleries that are built, killed, read and built again by real processes: see toy.py."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time

import forked
import numpy as np
import pytest
from forked import end, start

from msiam.errors import GalleryError
from msiam.gallery.gallery import Gallery
from msiam.gallery.writing import writing


@pytest.fixture(scope="module")
def server(toy):
    with forked.server(str(toy.path)) as process:
        yield process


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
            assert toy.files(folder) == toy.WHOLE, f"the next writer left drafts of step {step}"
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
            assert toy.files(folder) in (toy.WHOLE, [".lock"])
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
    while len(versions) < 20 or len(set(versions)) == 1:
        assert len(versions) < 200, "no rebuild ever ends before it is killed"
        pid = start(server, "loop", folder)
        time.sleep(chance.uniform(0, 2 * one_rebuild))
        os.kill(pid, signal.SIGKILL)
        assert end(server) == -signal.SIGKILL
        versions.append(whole(folder, toy))
    toy.build(folder, 1)
    assert toy.files(folder) == toy.WHOLE


def test_a_reader_sees_whole_galleries_while_a_writer_replaces_them(toy, server, tmp_path):
    folder = tmp_path / "g"
    toy.build(folder, 0)
    pid = start(server, "loop", folder)
    versions = []
    try:
        while len(set(versions)) < 8:
            assert len(versions) < 10_000, "the writer writes nothing"
            versions.append(whole(folder, toy))
    finally:
        os.kill(pid, signal.SIGKILL)
        end(server)
    assert versions == sorted(versions)


def test_a_second_process_is_refused_while_one_writes(toy, server, tmp_path):
    codes = []

    def meanwhile(vectors):
        start(server, "die", tmp_path / "g", 0)
        codes.append(end(server))
        return vectors

    Gallery.build(toy.changed(meanwhile), toy.table(1), column="text", folder=tmp_path / "g")
    assert codes == [2]
    assert "another process is writing this gallery" in server.stderr.readline()
    assert len(Gallery.open(tmp_path / "g")) == toy.ROWS
