"""Galleries that are changed, killed, read and changed again by real processes: see toy.py."""

from __future__ import annotations

import os
import random
import signal
import time

import forked
import numpy as np
import pytest
from forked import end, start

from msiam.gallery.gallery import Gallery
from msiam.gallery.writing import writing


@pytest.fixture(scope="module")
def server(toy):
    with forked.server(str(toy.path)) as process:
        yield process


@pytest.fixture
def folder(toy, tmp_path):
    options = {"factory": "IVF4,PQ4x4fs"}  # which keeps raw vectors in a file of their own
    Gallery.build(toy.Toy(), toy.table(0), "text", tmp_path / "g", id="sku", options=options)
    return tmp_path / "g"


def whole(folder, toy):
    """Open a gallery, and check that it is what one commit or another made; its version."""
    gallery = Gallery.open(folder, toy.Toy())
    held = {
        id: record["text"]
        for batch in gallery.batches()
        for id, record in zip(*(c.to_pylist() for c in batch.columns), strict=True)
    }
    version = max(record["version"] for _, record in gallery.records(np.arange(len(gallery))))
    between = toy.state(version) | {
        name: text for name, text in toy.state(version - 1).items() if name in toy.removed(version)
    }
    assert held in (toy.state(version), between if version else None)
    scores, found = gallery.nearest(np.array([toy.unit(t) for t in held.values()]), 1, exact=True)
    assert [id for id, _ in gallery.records(found[:, 0])] == list(held)
    assert (scores > 0.999).all() and len(gallery) == len(held)
    return version


def test_killed_at_fifty_random_moments_it_leaves_the_old_gallery_or_the_new_one(
    toy, server, folder
):
    begun = time.monotonic()
    start(server, "change", folder, 3)
    assert end(server) == 0
    three_changes = time.monotonic() - begun
    chance = random.Random(0)
    versions = [whole(folder, toy)]
    for _ in range(50):
        pid = start(server, "change", folder, 1000)
        time.sleep(chance.uniform(0, three_changes))
        os.kill(pid, signal.SIGKILL)
        assert end(server) == -signal.SIGKILL
        versions.append(whole(folder, toy))
    assert versions == sorted(versions) and len(set(versions)) > 5
    with writing(folder):
        kept = {stored.name for stored in Gallery.open(folder).manifest.files}
        assert {path.name for path in folder.iterdir()} == kept | {".lock", "manifest.json"}


def test_a_reader_sees_whole_galleries_while_a_writer_changes_them(toy, server, folder):
    opened = Gallery.open(folder, toy.Toy())
    pid = start(server, "change", folder, 1000)
    versions = []
    try:
        while len(set(versions)) < 8:
            assert len(versions) < 10_000, "the writer writes nothing"
            versions.append(whole(folder, toy))
    finally:
        os.kill(pid, signal.SIGKILL)
        end(server)
    assert versions == sorted(versions)
    # Whoever had it open before all that has what he opened.
    assert opened.search("0/7", k=1)[0].id == "s7" and len(opened) == toy.ROWS
    assert len(np.concatenate(list(opened.all_vectors()))) == toy.ROWS


def test_a_second_writer_waits_where_it_is_told_to(toy, server, folder):
    with writing(folder):
        start(server, "wait", folder)
        time.sleep(0.3)
        assert len(Gallery.open(folder)) == toy.ROWS
    assert end(server) == 0
    assert len(Gallery.open(folder)) == toy.ROWS - 1
