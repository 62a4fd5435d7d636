from __future__ import annotations

import csv
import json

import pytest
from command_line import run_command

from msiam import Gallery
from msiam.errors import RunError
from msiam.run import duplicates, load
from msiam.run.duplicates import dedupe_table, index_for

THINGS = [f"{colour} {thing}" for colour in ("red", "green", "blue") for thing in ("cat", "boat")]
TEXTS = [f"where is the {thing}" for thing in THINGS]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a run of one tower, one of two, and a table with two texts that come again."""
    folder = tmp_path_factory.mktemp("duplicates")
    rows = [f"where is the {thing},find the {thing}\n" for thing in THINGS] * 5
    (folder / "pairs.csv").write_text("a,b\n" + "".join(rows), encoding="utf-8")
    for name, shared in (("one", ["--shared"]), ("two", [])):
        done = run_command(
            "train", "--data", "pairs.csv", "--columns", "a=lstm,b=lstm", *shared, "--out", name,
            "--set", "train.max_steps=2", "--set", "data.split={validation: 0.3, test: 0}",
            cwd=folder,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    texts = [*TEXTS, TEXTS[1], "", TEXTS[4], TEXTS[1]]
    lines = (f"k{n},{text}\n" for n, text in enumerate(texts))
    (folder / "t.csv").write_text("key,a\n" + "".join(lines), encoding="utf-8")
    return folder


def read(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))[1:]


GONE = [["k6", "k1"], ["k8", "k4"], ["k9", "k1"]]


def test_a_table_and_its_gallery_have_the_same_duplicates(place):
    done = run_command(
        "dedupe", "t.csv", "--run", "one", "--id", "key", "--threshold", 1, "--out", "d.csv",
        "--json", cwd=place,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["records"], told["pairs"], told["groups"], told["removable"]) == (9, 3, 2, 3)
    assert [row for row, _ in told["rejected"]] == [7]
    assert read(place / "d.groups.csv") == GONE
    assert sorted(row[:2] for row in read(place / "d.csv")) == [
        ["k1", "k6"], ["k1", "k9"], ["k4", "k8"]
    ]  # fmt: skip
    run_command("index", "one", "t.csv", "--id", "key", "--out", "gallery", cwd=place)
    done = run_command("dedupe", "gallery", "--threshold", 1, "--out", "e.csv", cwd=place)
    assert done.returncode == 0, done.stderr
    assert (place / "e.csv").read_bytes() == (place / "d.csv").read_bytes()
    assert "3 of them may go, so that one of each of 2 groups is left: e.groups.csv" in done.stdout
    assert not list(place.glob(".*")), "a folder was left"


def test_without_a_threshold_it_is_the_runs(place):
    run = load(place / "one")
    assert run.calibration is not None
    told = dedupe_table(run, place / "t.csv", "a", place / "f.csv", "key")
    assert told.threshold == run.calibration.threshold
    run_command("index", "one", "t.csv", "--id", "key", "--out", "gallery", cwd=place)
    done = run_command("dedupe", "gallery", "--out", "g.csv", "--json", cwd=place)
    assert json.loads(done.stdout)["threshold"] == run.calibration.threshold
    assert (place / "g.csv").read_bytes() == (place / "f.csv").read_bytes()


def test_a_long_table_is_compared_by_an_index_in_lists(place, monkeypatch):
    in_lists = {"factory": "IVF2,Flat", "nprobe": 2}
    monkeypatch.setattr(duplicates, "index_for", {9: None, 10: in_lists}.get)
    dedupe_table(load(place / "one"), place / "t.csv", "a", place / "h.csv", "key", threshold=1)
    assert read(place / "h.groups.csv") == GONE
    assert index_for(200_000) == {"factory": "Flat"}
    assert index_for(1_000_000) == {"factory": "IVF4096,Flat", "nprobe": 32}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["t.csv"], "t.csv: is no gallery; name what embeds this table with --run"),
        (
            ["t.csv", "--run", "two", "--column", "a"],
            "its threshold is for a ↔ b, and says nothing",
        ),
        (["t.csv", "--run", "two/model", "--column", "a"], "a model alone has no threshold; give"),
        (["gallery", "--column", "a"], "gallery: is a gallery, which has its --column and --id"),
        (["gallery", "--run", "nowhere"], "its run is not at nowhere; name it with --run, or give"),
        (["gallery", "--run", "two"], "another model made it"),
        (["nowhere.csv", "--run", "one"], "nowhere.csv"),
        (["t.csv", "--run", "one", "--threshold", "2"], "threshold: found 2.0; a cosine above -1"),
    ],
)
def test_what_is_asked_for_must_be_there(place, words, message):
    run_command("index", "one", "t.csv", "--id", "key", "--out", "gallery", cwd=place)
    before = sorted(place.rglob("*"))
    done = run_command("dedupe", *words, "--out", "wrong.csv", cwd=place)
    assert done.returncode == 2 and message in done.stderr
    assert done.stderr.count("\n") == 1
    assert sorted(place.rglob("*")) == before


@pytest.mark.parametrize(("table", "named"), [("d.csv", "d.csv"), ("d.groups.csv", "d.groups.csv")])
def test_the_table_itself_is_not_replaced(place, tmp_path, table, named):
    """By the pairs, or by the groups beside them."""
    (tmp_path / table).write_bytes((place / "t.csv").read_bytes())
    with pytest.raises(RunError, match=f"{named}: is the table that is read"):
        dedupe_table(load(place / "one"), tmp_path / table, "a", tmp_path / "d.csv", threshold=1)
    assert [path.name for path in tmp_path.iterdir()] == [table]
    assert (tmp_path / table).read_bytes() == (place / "t.csv").read_bytes()


def test_a_run_that_is_gone_is_named(place, tmp_path):
    model = load(place / "one").model
    Gallery.build(model, [{"a": "where"}], "a", tmp_path / "g", run=tmp_path / "gone")
    with pytest.raises(RunError, match=r"its run is not at .*gone; name it with --run"):
        duplicates.dedupe_gallery(Gallery.open(tmp_path / "g"), tmp_path / "d.csv")


def test_a_gallery_of_a_model_alone_has_no_run_to_be_gone(place, tmp_path):
    model = load(place / "one").model
    Gallery.build(model, [{"a": "where"}], "a", tmp_path / "g")
    with pytest.raises(RunError, match="g: was built from a model alone; name it with --run, or"):
        duplicates.dedupe_gallery(Gallery.open(tmp_path / "g"), tmp_path / "d.csv")
