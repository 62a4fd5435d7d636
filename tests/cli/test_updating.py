"""A gallery from day to day: add, replace, remove, compact and check, on the command line."""

import csv
import json
import shutil
from pathlib import Path

import pytest
from command_line import Command


def write(path: Path, rows: list[dict[str, object]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture(scope="module")
def built(workplace: Path) -> Path:
    from command_line import run_command

    rows = [{"key": f"k{n}", "question1": f"where is the {w} cat", "price": n}
            for n, w in enumerate(("red", "blue", "green", "old"))]  # fmt: skip
    write(workplace / "first.csv", rows)
    done = run_command(
        "index", "runs/pairs", "first.csv", "--id", "key", "--out", "built", cwd=workplace
    )
    assert done.returncode == 0, done.stderr
    return workplace / "built"


@pytest.fixture
def gallery(built: Path, workplace: Path) -> str:
    """A fresh copy, beside the run from which it was built."""
    shutil.rmtree(workplace / "copy", ignore_errors=True)
    shutil.copytree(built, workplace / "copy")
    return "copy"


def test_from_day_to_day(msiam: Command, workplace: Path, gallery: str) -> None:
    write(workplace / "more.csv", [
        {"key": "k1", "question1": "where is the blue boat", "price": 7},
        {"key": "n", "question1": "who ate the fish", "price": 9},
    ])  # fmt: skip
    refused = msiam("add", gallery, "more.csv")
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1
    assert "row 0: copy has a record 'k1' already; upsert replaces it" in refused.stderr
    done = msiam("add", gallery, "more.csv", "--upsert", "--json")
    assert json.loads(done.stdout) == {
        "gallery": "copy", "added": 2, "records": 5, "rejected": [],
    }  # fmt: skip
    hit = json.loads(msiam("search", gallery, "who ate the fish", "-k", "1", "--json").stdout)
    assert hit[0]["hits"][0]["id"] == "n"
    done = msiam("remove", gallery, "k0", "n")
    assert done.stdout == "2 removed; 3 records: copy\n"
    done = msiam("remove", gallery, "--where", "price >= 7", "--json")
    assert json.loads(done.stdout) == {"gallery": "copy", "removed": 1, "records": 2}
    done = msiam("compact", gallery)
    assert done.stdout.startswith("2 records in 0.0 MB, before 0.0")
    assert "2 records, 2 files, 0.0 MB, as they were written" in msiam("check", gallery).stdout
    left = msiam("search", gallery, "where is the red cat", "--json").stdout
    assert {hit["id"] for hit in json.loads(left)[0]["hits"]} == {"k2", "k3"}


def test_a_gallery_without_records_finds_nothing(msiam: Command, gallery: str) -> None:
    assert msiam("remove", gallery, "k0", "k1", "k2", "k3").returncode == 0
    done = msiam("remove", gallery, "--where", "price > 0")
    assert done.stdout == "0 removed; 0 records: copy\n"
    found = msiam("search", gallery, "where", "--json")
    assert json.loads(found.stdout) == [{"query": "where", "hits": []}]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("remove", "copy"), "give ids, or --where"),
        (("remove", "copy", "k1", "--where", "price < 2"), "give ids, or --where"),
        (("remove", "copy", "k1", "k9"), "has no record 'k9', so none was removed"),
        (("remove", "copy", "--where", "prize < 2"), "prize"),
        (("compact", "nowhere"), "there is no such folder"),
        (("add", "copy", "nowhere.csv"), "nowhere.csv"),
        (("add", "copy", "first.csv", "--id", "kye"), "did you mean 'key'"),
    ],
)
def test_bad_input(msiam: Command, gallery: str, words: tuple[str, ...], message: str) -> None:
    done = msiam(*words)
    assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1


def test_check_names_the_file_that_changed(msiam: Command, workplace: Path, gallery: str) -> None:
    path = next((workplace / gallery).glob("catalogue-*"))
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    done = msiam("check", gallery)
    assert done.returncode == 2 and f"{path.name}: has changed since it was written" in done.stderr
