"""msiam search with all that it takes, and what it says of what it does not."""

from __future__ import annotations

import csv
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import COLOURS, THINGS, Command, run_command
from PIL import Image

from msiam.evaluation.calibration import Calibration
from msiam.gallery.gallery import Gallery


@pytest.fixture(scope="module")
def shop(workplace: Path) -> Path:
    """A gallery of a question a thing, with its colour, what it costs and whether it is there."""
    with (workplace / "shop.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["key", "question1", "colour", "thing", "price", "in stock"])
        for n, (colour, thing) in enumerate((c, t) for c in COLOURS for t in THINGS):
            stock = n % 3 == 0
            writer.writerow([f"s{n}", f"where is the {colour} {thing}", colour, thing, n, stock])
    done = run_command(
        "index", "runs/pairs", "shop.csv", "--column", "question1", "--id", "key", "--out", "shop",
        cwd=workplace,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return workplace / "shop"


@pytest.fixture
def search(shop: Path, msiam: Command) -> Command:
    """Search the shop, and give the answers."""

    def call(*words: object) -> Any:
        done = msiam("search", "shop", *words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return call


def test_a_filter(search: Command) -> None:
    where = "price < 50 and colour = 'blue' and \"in stock\" = 'True'"
    (answer,) = search("where is the boat", "-k", 60, "--where", where)
    records = [hit["record"] for hit in answer["hits"]]
    assert sorted(record["price"] for record in records) == [21, 24, 27]
    assert all(record["colour"] == "blue" for record in records)


def test_groups(search: Command) -> None:
    (answer,) = search("where is the boat", "-k", 60, "--group", "thing")
    assert sorted(hit["record"]["thing"] for hit in answer["hits"]) == sorted(THINGS)


def test_thresholds(search: Command, workplace: Path) -> None:
    words = ("where is the blue boat", "-k", 60)
    (all_of_them,) = search(*words)
    scores = [hit["score"] for hit in all_of_them["hits"]]
    assert len(scores) == 60
    (some,) = search(*words, "--threshold", scores[4])
    assert [hit["score"] for hit in some["hits"]] == scores[:5]
    calibration = Calibration.from_json((workplace / "runs/pairs/calibration.json").read_text())
    (decided,) = search(*words, "--threshold", "run")
    passing = [score for score in scores if score >= np.float32(calibration.threshold)]
    assert [hit["score"] for hit in decided["hits"]] == passing and passing


def test_a_record_and_all_else_together(search: Command, shop: Path, workplace: Path) -> None:
    """Queries, records and vectors, each with their hits, in that order."""
    vectors = Gallery.open(shop).vectors(np.array([7, 9]))
    np.save(workplace / "two.npy", vectors)
    found = search("who is there", "--like", "s3", "--like", "s4", "--vectors", "two.npy", "-k", 2)
    assert [{k: v for k, v in answer.items() if k != "hits"} for answer in found] == [
        {"query": "who is there"}, {"like": "s3"}, {"like": "s4"}, {"row": 0}, {"row": 1},
    ]  # fmt: skip
    first = [answer["hits"][0]["id"] for answer in found]
    assert first[1] != "s3" and first[2] != "s4" and first[3:] == ["s7", "s9"]


def test_the_query_itself_is_left_out(search: Command) -> None:
    query = "where is the blue boat"
    assert search(query, "-k", 1)[0]["hits"][0]["record"]["question1"] == query
    (answer,) = search(query, "-k", 60, "--exclude")
    assert len(answer["hits"]) == 59
    assert query not in [hit["record"]["question1"] for hit in answer["hits"]]


def test_exact_and_a_graph(msiam: Command, shop: Path) -> None:
    done = msiam(
        "index", "runs/pairs", "shop.csv", "--column", "question1", "--id", "key", "--out", "graph",
        "--backend-option", "factory=HNSW8", "--backend-option", "ef_search=1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    words = ("where is the blue boat", "-k", 9, "--json")
    exact = json.loads(msiam("search", "graph", *words, "--exact").stdout)
    assert exact == json.loads(msiam("search", "shop", *words).stdout)


def test_what_is_printed(msiam: Command, shop: Path) -> None:
    done = msiam("search", "shop", "--like", "s3", "-k", 2, "--where", "price > 40")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("like s3\n") and "where is the" in done.stdout
    assert done.stdout.splitlines()[1].split() == ["score", "id", "question1", "price"]
    done = msiam("search", "shop", "a", "-k", 2, "--group", "thing", "--where", "colour = 'blue'")
    head = done.stdout.splitlines()[1].split()
    assert head == ["score", "id", "question1", "colour", "thing"]
    done = msiam("search", "shop", "where is it", "--where", "price > 400")
    assert done.stdout == "where is it\nno record\n\n"
    done = msiam("search", "shop", "x" * 100_000, "-k", 1)
    assert done.returncode == 0 and len(done.stdout) < 2000


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 2, done.stdout + done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("msiam: ") and len(line) < 500
    for word in words:
        assert word in line, line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], ["nothing to search with", "--like ID"]),
        (["a", "-k", 0], ["k: found 0", "1 or more"]),
        (["a", "-k", -1], ["k: found -1"]),
        (["a", "--where", "prize < 5"], ["⟨here⟩prize < 5", "did you mean 'price'"]),
        (["a", "--where", "price << 5"], ["price <⟨here⟩< 5", "(character 8)", "a value"]),
        (["a", "--where", "price < 'x'"], ["price < ⟨here⟩'x'", "holds numbers"]),
        (["a", "--where", "price = 1\nand"], ["(character 14)"]),
        (["a", "--where", "(" * 100_000], ["more than 50 parentheses"]),
        (["a", "--where", ""], ["is empty"]),
        (["a", "--threshold", "high"], ["--threshold: found 'high'", "or run"]),
        (["a", "--threshold", "nan"], ["threshold: found nan"]),
        (["a", "--group", "color"], ["no column 'color'", "did you mean 'colour'"]),
        (["a", "--column", "question"], ["no column 'question'", "did you mean 'question"]),
        (["--like", "s999"], ["shop: has no record 's999'"]),
        (["--vectors", "none.npy"], ["none.npy: cannot be read"]),
        (["--vectors", "shop.csv"], ["shop.csv: is no .npy file"]),
        (["--vectors", "narrow.npy"], ["narrow.npy: found shape (2, 3), and (n, 32) is right"]),
        (["--vectors", "nan.npy"], ["nan.npy: row 1 holds NaN"]),
        (["--vectors", "zero.npy"], ["row 0 is zero"]),
        (["--like", "s3", "--exclude"], ["found --exclude without queries", "leave it out"]),
        (["--vectors", "zero.npy", "--column", "question2"], ["found --column without queries"]),
        (["--like", "s3", "--precision", "bf16"], ["found --precision without queries"]),
        (
            ["--like", "s3", "--exclude", "--column", "question2"],
            ["--exclude and --column", "leave them out"],
        ),
    ],
)
def test_bad_input(msiam: Command, shop: Path, words: list[object], said: list[str]) -> None:
    np.save(shop.parent / "narrow.npy", np.ones((2, 3)))
    np.save(shop.parent / "nan.npy", np.array([[1.0] * 32, [np.nan] * 32]))
    np.save(shop.parent / "zero.npy", np.zeros((1, 32)))
    refused(msiam("search", "shop", *words), *said)


def test_k_beyond_the_gallery(search: Command) -> None:
    assert len(search("a", "-k", 10**9)[0]["hits"]) == 60
    assert len(search("a", "-k", 10**9, "--where", "price < 5")[0]["hits"]) == 5


def test_a_query_of_10_mb(shop: Path) -> None:
    """Longer than a command line may be: from Python. It is embedded, or said to be too long."""
    from msiam.run import open_gallery

    opened = open_gallery(shop)
    hits = opened.search("where is the blue boat " * 450_000, 3, where="price < 5")
    assert len(hits) == 3


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of names and pictures, and a gallery of its pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    with (folder / "t.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "picture"])
        for n in range(60):
            Image.effect_noise((32, 32), 10 + n).save(folder / f"{n}.png")
            writer.writerow([f"picture number {n}", f"{n}.png"])
    done = run_command(
        "train", "--data", "t.csv", "--columns", "name=lstm,picture=small_cnn", "--out", "run",
        "--set", "train.max_steps=1", "--set", "towers.picture.size=32", cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    done = run_command("index", "run", "t.csv", "--column", "picture", "--out", "g", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_either_direction_and_a_picture_as_the_query(pictures: Path) -> None:
    words = ("search", "g", "-k", "3", "--json")
    across = run_command(*words, "picture number 3", cwd=pictures)
    assert len(json.loads(across.stdout)[0]["hits"]) == 3
    same = run_command(*words, "3.png", cwd=pictures)
    assert json.loads(same.stdout)[0]["hits"][0]["id"] == "3"
    others = run_command(*words, "3.png", "--exclude", "--where", "name != 'x'", cwd=pictures)
    ids = [hit["id"] for hit in json.loads(others.stdout)[0]["hits"]]
    like = run_command(*words, "--like", "3", cwd=pictures)
    assert ids == [hit["id"] for hit in json.loads(like.stdout)[0]["hits"]] and "3" not in ids


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("text.png", b"no picture at all", "text.png"),
        ("cut.png", None, "broken picture"),
        ("empty.png", b"", "empty.png"),
        ("missing.png", "", "no such file"),
    ],
)
def test_a_picture_that_is_none(
    pictures: Path, name: str, content: bytes | str | None, said: str
) -> None:
    if content is None:
        content = (pictures / "0.png").read_bytes()[:100]
    if isinstance(content, bytes):
        (pictures / name).write_bytes(content)
    refused(run_command("search", "g", name, cwd=pictures), f"query '{name}'", said)
