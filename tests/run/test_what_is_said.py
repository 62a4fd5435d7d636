"""What may be said of rows, from the table to the report: classes of one column and two, scores."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import yaml
from command_line import run_command
from PIL import Image, ImageDraw

import msiam
from msiam import errors

KINDS, EACH = 8, 6
TEXT = {"encoder": "lstm", "dim": 16, "hidden": 16, "min_count": 1}
PICTURE = {"encoder": "small_cnn", "dim": 16, "width": 8, "size": 32}
QUICK = {"max_steps": 12, "batch_size": 24, "evaluations": 1}


def draw(kind, generator):
    """A shape on a light ground; its form and its colour are its kind's, its place is its own."""
    picture = Image.new("RGB", (24, 24), tuple(generator.integers(225, 255, 3).tolist()))
    x, y = generator.integers(2, 10, 2).tolist()
    colour = tuple(np.random.default_rng(kind + 50).integers(20, 200, 3).tolist())
    pen = ImageDraw.Draw(picture)
    (pen.ellipse if kind % 2 else pen.rectangle)([x, y, x + 11, y + 11], fill=colour)
    return picture


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder with pictures of kinds, and pictures.csv, which says which is of which."""
    folder = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    with (folder / "pictures.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["image", "kind", "words"])
        writer.writeheader()
        for kind in range(KINDS):
            for n in range(EACH):
                draw(kind, generator).save(folder / f"{kind}-{n}.png")
                words = f"the {'round' if kind % 2 else 'square'} thing of sort{kind} number {n}"
                writer.writerow({"image": f"{kind}-{n}.png", "kind": f"k{kind}", "words": words})
    return folder


@pytest.fixture(scope="module")
def supcon(pictures):
    """A run of one column, by the command line, in pictures/run."""
    done = run_command(
        "train", "--data", "pictures.csv", "--columns", "image=small_cnn", "--classes", "kind",
        "--set", "towers.image.dim=16", "--set", "towers.image.width=8",
        "--set", "towers.image.size=32", "--set", "train.max_steps=12",
        "--set", "evaluate=[retrieval, verification]", "--out", "run", "--json", cwd=pictures,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["metrics"]


def test_one_column_of_classes_from_the_command_line(supcon, pictures):
    recipe = yaml.safe_load((pictures / "run/recipe.yaml").read_text())
    assert recipe["columns"] == {"image": "image"}
    assert recipe["data"]["classes"] == {"image": "kind"}
    assert recipe["data"]["split"]["by"] == "class"
    assert recipe["loss"][0]["name"] == "supcon"
    assert supcon["retrieval"]["image_to_image/queries"] == 2 * EACH  # two classes are held out
    assert supcon["retrieval"]["image_to_image/gallery"] == 2 * EACH
    assert supcon["verification"]["pairs"] == 2 * 2 * EACH * (EACH - 1)
    assert supcon["verification"]["same"] == 2 * EACH * (EACH - 1)
    assert supcon["training"]["train_rows"] == (KINDS - 4) * EACH


def test_its_report_speaks_of_classes(supcon, pictures):
    html = (pictures / "run/report.html").read_text()
    assert "From image to image, one of the same class, of 12, comes first in" in html
    assert "2 validation, 2 test, 4 train" in html.replace("\n", " ")
    assert "the first of its class has rank" in html
    assert "never seen (open set)" in html
    assert html.count("<img ") > 8


def test_it_evaluates_to_the_figures_it_has_and_on_another_table(supcon, pictures, tmp_path):
    run = msiam.load(pictures / "run")
    assert run.evaluate(pictures / "pictures.csv")["retrieval"]["image_to_image/queries"] == 48
    done = run_command("evaluate", "run", "--json", cwd=pictures)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["retrieval"] == supcon["retrieval"]


def test_two_items_of_one_column_are_matched(supcon, pictures):
    done = run_command("match", "run", "1-0.png", "1-0.png", "--json", cwd=pictures)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["same"] is True and answer["similarity"] > 0.999
    run = msiam.load(pictures / "run")
    other = run.match(str(pictures / "1-0.png"), str(pictures / "4-0.png"))
    assert other.similarity < answer["similarity"]
    assert other.threshold == answer["threshold"]


def test_it_is_indexed_and_searched(supcon, pictures):
    done = run_command("index", "run", "pictures.csv", "--id", "image", "--json", cwd=pictures)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["records"] == KINDS * EACH
    found = run_command("search", "run/gallery", "3-2.png", "-k", 3, "--json", cwd=pictures)
    assert found.returncode == 0, found.stderr
    ((answer),) = json.loads(found.stdout)
    assert answer["hits"][0]["id"] == "3-2.png"


def test_triplets_are_mined_within_one_column(pictures, tmp_path):
    """Batch-hard, over classes that are on both sides."""
    recipe = {
        "name": "hard",
        "data": {
            "table": str(pictures / "pictures.csv"),
            "classes": {"image": "kind"},
            "split": {"validation": 0.2, "test": 0.4, "by": "item"},
        },
        "columns": {"image": "image"},
        "towers": {"image": PICTURE},
        "loss": {"name": "triplet", "miner": "hard", "soft": True},
        "train": QUICK | {"max_steps": 40, "learning_rate": 3e-3},
    }
    run = msiam.train(recipe, folder=tmp_path / "run")
    found = run.metrics["retrieval"]
    assert found["image_to_image/map@r"] > 0.5  # by chance 1/8 and less
    assert found["image_to_image/recall@1/low"] > found["image_to_image/chance/recall@1"]
    assert "Classes are on both sides (closed set)." in (tmp_path / "run/report.html").read_text()


def test_from_python_it_is_one_word(pictures, tmp_path):
    model = msiam.Model({"image": PICTURE}, {"image": "image"})
    run = msiam.train(
        model, pictures / "pictures.csv", classes="kind", folder=tmp_path / "run", **QUICK
    )
    assert run.recipe.data.classes == {"image": "kind"}
    assert "image_to_image/mrr" in run.metrics["retrieval"]


@pytest.mark.parametrize("loss", ["supcon", "contrastive"])
def test_two_towers_with_classes_on_both_sides(pictures, tmp_path, loss):
    """Words and pictures of kinds, in rows that are the same (even ones) and that are not."""
    with (pictures / "pictures.csv").open() as file:
        table = list(csv.DictReader(file))
    rows = []
    for n, row in enumerate(table):
        other = row if n % 2 == 0 else table[(n + 3 * EACH) % len(table)]
        rows.append({
            "image": str(pictures / row["image"]), "image_kind": row["kind"],
            "words": other["words"], "words_kind": other["kind"],
        })  # fmt: skip
    recipe = {
        "name": "both",
        "data": {
            "table": "<given>",
            "classes": {"words": "words_kind", "image": "image_kind"},
            "split": {"by": "item", "validation": 0.2, "test": 0.2},
        },
        "columns": {"words": "words", "image": "image"},
        "towers": {"words": TEXT, "image": PICTURE},
        "loss": loss,
        "evaluate": ["retrieval", "verification"],
        "train": QUICK,
    }
    run = msiam.train(recipe, rows, folder=tmp_path / "run")
    found = run.metrics
    held_out = found["training"]["test_rows"]
    assert found["verification"]["pairs"] == held_out
    assert 0 < found["verification"]["same"] < held_out
    # Each is a query that finds one of its kind in the other column, be its own row the same or not
    assert found["retrieval"]["words_to_image/queries"] > found["verification"]["same"]


SCORED = [
    {"a": f"a {one} {food}", "b": f"the {two} {food}", "alike": 5.0 if one == two else 1.5}
    for food in ("rice", "bread", "soup", "pizza", "fish", "tofu", "beans", "pasta", "eggs", "oats")
    for one in ("raw", "hot", "old")
    for two in ("raw", "hot", "old")
]
APART = [row | {"a": f"{row['a']} {n}", "b": f"{row['b']} {n}"} for n, row in enumerate(SCORED)]


def test_scored_pairs(tmp_path):
    model = msiam.Model({"text": TEXT}, {"a": "text", "b": "text"})
    run = msiam.train(
        model, APART, score={"column": "alike", "same": 3}, folder=tmp_path / "run",
        max_steps=60, batch_size=32, learning_rate=1e-2, evaluations=2,
    )  # fmt: skip
    assert run.recipe.loss[0].name == "cosent" and run.recipe.evaluate[0].name == "correlation"
    found = run.metrics["correlation"]
    assert found["spearman"] > 0.5 and found["spearman/low"] < found["spearman"]
    assert found["pairs"] == run.metrics["training"]["test_rows"]
    assert run.calibration is not None
    html = (tmp_path / "run/report.html").read_text()
    assert "Similarity against score" in html and "Spearman" in html
    assert run.match("a hot rice", "a hot rice").same


def test_scored_pairs_from_the_command_line(tmp_path):
    with (tmp_path / "t.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["a", "b", "alike"])
        writer.writeheader()
        writer.writerows(APART)
    arguments = ["train", "--data", "t.csv", "--columns", "a=lstm,b=lstm", "--shared"]
    quick = ["--set", "train.max_steps=2", "--set", "towers.shared.hidden=8", "--out", "run"]
    done = run_command(*arguments, "--score", "alike=3", *quick, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    recipe = yaml.safe_load((tmp_path / "run/recipe.yaml").read_text())
    assert recipe["data"]["score"] == {"column": "alike", "same": 3.0}
    refused = run_command(*arguments, "--score", "alike", cwd=tmp_path)
    assert refused.returncode == 2 and "data.score.same: is missing" in refused.stderr
    refused = run_command(*arguments, "--score", "alike=9", *quick, "--overwrite", cwd=tmp_path)
    assert refused.returncode == 2 and "so that no pairs are the same" in refused.stderr


def test_columns_that_nothing_reads_are_named(tmp_path):
    with (tmp_path / "t.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["a", "b", "alike"])
        writer.writeheader()
        writer.writerows(APART)
    arguments = ["train", "--data", "t.csv", "--columns", "a=lstm,b=lstm", "--shared"]
    quick = ["--set", "train.max_steps=2", "--set", "towers.shared.hidden=8"]
    done = run_command(*arguments, *quick, "--out", "run", cwd=tmp_path)
    assert "Columns that are not used: alike." in done.stderr
    done = run_command(*arguments, *quick, "--score", "alike=3", "--out", "other", cwd=tmp_path)
    assert done.returncode == 0 and "not used" not in done.stderr


def test_a_teachers_margins(tmp_path):
    rows = [
        {"q": row["a"], "good": row["a"] + " yes", "bad": row["b"], "margin": n % 7 / 7}
        for n, row in enumerate(APART)
    ]
    model = msiam.Model({"text": TEXT}, {"q": "text", "good": "text", "bad": "text"})
    run = msiam.train(model, rows, score="margin", folder=tmp_path / "run", **QUICK)
    assert run.recipe.loss[0].name == "margin_mse"
    assert -1 <= run.metrics["correlation"]["spearman"] <= 1


def test_what_is_said_belongs_to_a_model_and_not_to_a_recipe(tmp_path):
    with pytest.raises(errors.RecipeError, match="label, score, classes, loss and settings go wi"):
        msiam.train({"data": {"table": "x"}}, classes="kind", folder=tmp_path / "run")
    model = msiam.Model({"text": TEXT}, {"a": "text", "b": "text"})
    with pytest.raises(errors.RecipeError, match="train: data: found score and classes; rows hav"):
        msiam.train(model, SCORED, score="alike", classes="kind", folder=tmp_path / "run")
