"""msiam mine, in processes of its own: mined, told, and trained on."""

import csv
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from command_line import Command, run_process
from PIL import Image

from msiam import open_table

STEPS = ["--set", "train.max_steps=3", "--set", "data.split={validation: 0.3, test: 0}"]


def done_well(*arguments: object, cwd: Path) -> dict:
    done = run_process(*arguments, "--json", cwd=cwd)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_questions_and_questions_in_one_tower(workplace: Path, tmp_path: Path) -> None:
    """The run's own training part, then a triplet recipe on what was written."""
    out = tmp_path / "mined" / "triplets.csv"
    told = done_well("mine", "runs/pairs", "--out", out, "--negatives", 4, cwd=workplace)
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == told["columns"] == ["question1", "question2", "negative"]
    assert told["file"] == str(out) and told["rows"] == len(rows) == told["negatives"]
    assert told["pairs"] == len({row["question1"] for row in rows}) <= 54
    assert told["pairs"] * 4 == len(rows) and told["pairs_with_fewer"] == 0
    assert told["dropped"]["known"] >= 1
    assert -1 <= told["negative_score"] <= 1 and -1 <= told["positive_score"] <= 1
    partner = {row["question1"]: row["question2"] for row in rows}
    assert all(row["negative"] != partner[row["question1"]] for row in rows)
    held_out = held_out_questions(workplace)
    assert held_out and not held_out & {text for row in rows for text in row.values()}

    recipe = yaml.safe_load((workplace / "runs/pairs/recipe.yaml").read_text())
    recipe["data"] = {"table": str(out), "split": {"validation": 0.3, "test": 0}}
    recipe["columns"] = {**recipe["columns"], "negative": "shared"}
    recipe |= {"loss": "triplet", "evaluate": "retrieval"}
    recipe["train"]["max_steps"] = 3
    (tmp_path / "mined.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    trained = done_well("train", "mined.yaml", "--out", "run", cwd=tmp_path)
    assert trained["metrics"]["training"]["steps"] == 3


def held_out_questions(workplace: Path) -> set[str]:
    from msiam import load
    from msiam.data.parts import training_parts

    run = load(workplace / "runs/pairs")
    assert run.recipe is not None
    data = run.recipe.data.model_copy(update={"table": str(workplace / "pairs.csv")})
    parts = training_parts(data, run.model, run.recipe.train.seed)
    return {
        parts.items["shared"].values[number]
        for part in ("validation", "test")
        for numbers in parts.examples[part].columns.values()
        for number in numbers
    }


def test_names_and_pictures_in_two_towers(tmp_path: Path) -> None:
    with (tmp_path / "t.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "picture"])
        for n in range(60):
            Image.effect_noise((32, 32), 10 + n).save(tmp_path / f"{n}.png")
            writer.writerow([f"picture number {n}", f"{n}.png"])
    done_well(
        "train", "--data", "t.csv", "--columns", "name=lstm,picture=small_cnn", "--out", "run",
        "--set", "train.max_steps=2", "--set", "towers.picture.size=32", cwd=tmp_path,
    )  # fmt: skip
    out = tmp_path / "mined" / "triplets.parquet"
    told = done_well(
        "mine", "run", "t.csv", "--out", out, "--negatives", 3, "--sample", "random", cwd=tmp_path
    )  # a model that has learnt nothing finds the same few hardest for all
    found = pq.read_table(out).to_pylist()
    assert told["rows"] == len(found) == 180 and told["candidates"] == 60
    for row in found:  # a file's name is relative to the file that it now stands in
        number = row["name"].removeprefix("picture number ")
        assert row["picture"] == f"../{number}.png" != row["negative"]
        assert (out.parent / row["negative"]).is_file()
    assert len(open_table(out)) == 180

    done = run_process(
        "train", "--data", out, "--columns", "name=lstm,picture=small_cnn,negative=small_cnn",
        "--out", "again", *STEPS, "--set", "columns.negative=picture",
        "--set", "towers={name: {encoder: lstm}, picture: {encoder: small_cnn, size: 32}}",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr

    turned = done_well(
        "mine", "run", "t.csv", "--from", "picture", "--to", "name", "--wide", "--negatives", 2,
        "--out", "turned.jsonl", "--sample", "random", "--skip", 3, cwd=tmp_path,
    )  # fmt: skip
    assert turned["columns"] == ["picture", "name", "negative_1", "negative_2"]
    assert turned["dropped"]["skipped"] == 60 * 3
    first = json.loads((tmp_path / "turned.jsonl").read_text().splitlines()[0])
    assert first["picture"] == "0.png" and first["negative_1"].startswith("picture number ")


def test_what_is_said(msiam: Command, workplace: Path) -> None:
    done = msiam(
        "mine", "runs/pairs", "pairs.csv", "--out", "m.csv", "--relative-margin", 0.001,
        "--range", 20,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "is the run's own table, and mined as a whole" in done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("60 pairs, 120 candidates, ")
    assert any(line.startswith("  left out, known to belong to the anchor: ") for line in lines)
    assert any("--relative-margin of the positive: " in line for line in lines)
    assert any(line.startswith("mean score: positives ") for line in lines)
    assert lines[-1].endswith("rows of question1, question2, negative: m.csv")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--out", "m.xlsx"], ["m.xlsx", ".parquet, .csv, .jsonl"]),
        (["--out", "m.csv", "--from", "question"], ["no column 'question'", "question1"]),
        (["--out", "m.csv", "--skip", "98"], ["mine: range: found 100", "103"]),
        (["--out", "m.csv", "--sample", "best"], ["mine: sample: found 'best'", "'random'"]),
        (["--out", "m.csv", "--gallery", "nowhere"], ["nowhere"]),
        (["--out", "m.csv", "--max-score", "-1.5"], ["no pair of", "max_score", "range"]),
    ],
)
def test_what_cannot_be(
    msiam: Command, workplace: Path, options: list[str], words: list[str]
) -> None:
    done = msiam("mine", "runs/pairs", *options)
    assert done.returncode == 2, done.stdout
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("msiam: ")]
    for word in words:
        assert word in line
    assert not (workplace / options[1]).exists() or options[1] == "m.csv"


def test_help_says_what_is_mined_by_default(msiam: Command) -> None:
    said = " ".join(msiam("mine", "--help").stdout.split())
    assert "the training part of the run's own table is mined, and never what it held out" in said
