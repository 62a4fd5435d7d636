"""msiam tune: what it prints, draws and keeps."""

from __future__ import annotations

import fcntl
import json
import threading
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Command
from PIL import Image

from msiam.gallery.gallery import Gallery
from msiam.gallery.writing import LOCK


@pytest.fixture
def gallery(msiam: Command, workplace: Path) -> Path:
    """A gallery of 120 questions, on which two kinds of index can be measured."""
    done = msiam(
        "index", "runs/pairs", "pairs.csv", "--column", "question1", "--id", "key", "--out", "tuned"
    )
    assert done.returncode == 0, done.stderr
    return workplace / "tuned"


def told(done: Any) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_table_a_drawing_and_a_gallery_that_searches_with_what_was_chosen(
    msiam: Command, gallery: Path
) -> None:
    hits = told(msiam("search", "tuned", "where is the cat", "--exact", "--json"))
    done = msiam("tune", "tuned", "--recall", "0.5")
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == ["measuring Flat", "measuring HNSW32"]
    head, *rows = done.stdout.splitlines()
    assert head.split() == [
        "index", "search", "recall@10", "at", "least", "alone", "in", "a", "batch", "memory",
        "disk", "build",
    ]  # fmt: skip
    (flat,) = [row for row in rows if row.lstrip("→ ").startswith("Flat")]
    assert flat.lstrip("→ ").split()[1:3] == ["1.0000", "1.0000"]
    assert any(row.lstrip("→ ").startswith("HNSW32  ef_search=") for row in rows)
    (chosen,) = [row.split()[1] for row in rows if row.startswith("→")]
    assert rows[-1].startswith(f"tuned: searches with {chosen}")
    assert any("held out" in row and "--queries" in row for row in rows)
    ElementTree.parse(gallery / "tuning.svg")
    assert Gallery.open(gallery).manifest.options["factory"] == chosen
    assert told(msiam("search", "tuned", "where is the cat", "--exact", "--json")) == hits


def test_queries_of_a_file_and_a_dry_run(msiam: Command, gallery: Path, workplace: Path) -> None:
    manifest = (gallery / "manifest.json").read_bytes()
    words = ("tune", "tuned", "--recall", 0.9, "-k", 3, "--dry-run", "--plot", "drawn/f.png")
    found = told(msiam(*words, "--queries", "pairs.csv", "--json"))
    assert found["queries"] == "pairs.csv"
    assert found["wanted"]["recall"] == 0.9 and found["wanted"]["k"] == 3
    kinds = {one["factory"] for one in found["measured"]}
    assert kinds == {"Flat", "HNSW32"} and found["chosen"] in found["measured"]
    assert found["chosen"]["low"] >= 0.9
    Image.open(workplace / "drawn/f.png").verify()
    np.save(workplace / "asked.npy", Gallery.open(gallery).vectors(np.arange(50)))
    again = told(msiam(*words, "--queries", "asked.npy", "--json"))
    assert again["measured"][0]["recall"] == 1
    assert (gallery / "manifest.json").read_bytes() == manifest


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--memory", "1kB"], "nothing that was measured does all that is asked; it is left as"),
        (["--latency", "0.001us"], "nothing that was measured does all that is asked"),
        (["--recall", "95"], "recall: found 95.0; give a share, as 0.95"),
        (["--memory", "2"], "--memory: found '2'; give it as 2GB"),
        (["--latency", "fast"], "--latency: found 'fast'; give it as 5ms"),
        (["--queries", "none.npy"], "none.npy: cannot be read"),
        (["--queries", "none.csv"], "none.csv"),
        (["--queries", "pairs.csv", "--column", "question3"], "no column 'question3'"),
        (["--plot", "/proc/none/f.svg"], "/proc/none"),
        (["--plot", "f.pdf"], "f.pdf: a drawing is written as .svg or .png; found '.pdf'"),
    ],
)
def test_what_is_refused_leaves_the_gallery_as_it_was(
    msiam: Command, gallery: Path, words: list[str], said: str
) -> None:
    before = (gallery / "manifest.json").read_bytes()
    done = msiam("tune", "tuned", *words)
    assert done.returncode == 2
    line = done.stderr.splitlines()[-1]
    assert line.startswith("msiam: ") and said in line
    assert (gallery / "manifest.json").read_bytes() == before


def test_nothing_is_measured_for_a_drawing_that_cannot_be(msiam: Command, gallery: Path) -> None:
    done = msiam("tune", "tuned", "--plot", "f.pdf")
    assert done.returncode == 2 and "measuring" not in done.stderr
    assert not (gallery.parent / "f.pdf").exists()


def test_another_writer_at_the_end_is_waited_for(msiam: Command, gallery: Path) -> None:
    """What was measured would be lost otherwise. The drawing says that all of it was."""
    drawing = gallery / "tuning.svg"
    drawing.unlink(missing_ok=True)
    lock = (gallery / LOCK).open("a")
    fcntl.flock(lock, fcntl.LOCK_EX)

    def write() -> None:
        for _ in range(3000):
            if drawing.exists():
                break
            time.sleep(0.02)
        time.sleep(0.5)
        lock.close()

    writer = threading.Thread(target=write)
    writer.start()
    done = msiam("tune", "tuned", "--recall", 0.5)
    writer.join()
    assert done.returncode == 0, done.stderr
    assert "from now on" in done.stdout


def test_no_gallery(msiam: Command) -> None:
    done = msiam("tune", "nowhere")
    assert done.returncode == 2 and "nowhere: is no gallery" in done.stderr
