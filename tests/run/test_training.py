"""Recipe to run: what is kept, what is refused, and that nothing is lost before that is known."""

from __future__ import annotations

import csv

import pytest
import torch
import yaml

import msiam
from msiam import errors
from msiam.losses.infonce import InfoNCE

FOODS = ("rice", "bread", "soup", "pizza", "fish", "tofu", "lentils", "pasta", "eggs", "beans")
ROWS = [
    {"a": f"how to {verb} {food}", "b": f"the way to {verb} {food}"}
    for verb in ("cook", "freeze", "season", "buy")
    for food in FOODS
]
TEXT = {"encoder": "lstm", "dim": 8, "hidden": 8, "min_count": 1}


def write(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["a", "b"])
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


@pytest.fixture
def recipe(tmp_path):
    return {
        "name": "foods",
        "data": {"table": write(tmp_path / "foods.csv", ROWS)},
        "columns": {"a": "text", "b": "text"},
        "towers": {"text": TEXT},
        "train": {"max_steps": 2, "batch_size": 8},
    }


def contents(folder):
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {path.relative_to(folder): path.read_bytes() for path in files}


@pytest.mark.parametrize(
    ("key", "wrong"),
    [
        ("data", {"table": "typo.csv"}),
        ("columns", {"a": "text", "c": "text"}),
        ("towers", {"text": {"encoder": "lstmm"}}),
        ("loss", "contrastive"),
        ("evaluate", "retrieve"),
        ("train", {"sampler": "classes", "batch_size": 400}),
    ],
)
def test_overwriting_with_a_wrong_recipe_leaves_the_old_run(recipe, key, wrong, tmp_path):
    msiam.train(recipe, folder=tmp_path / "run")
    before = contents(tmp_path / "run")
    with pytest.raises(errors.MsiamError):
        msiam.train(recipe | {key: wrong}, folder=tmp_path / "run", overwrite=True)
    assert contents(tmp_path / "run") == before
    msiam.load(tmp_path / "run").encode({"a": ["rice"]})


def test_overwriting_begins_again(recipe, tmp_path):
    msiam.train(recipe, folder=tmp_path / "run")
    with pytest.raises(errors.RunError, match="overwrite=True"):
        msiam.train(recipe, folder=tmp_path / "run")
    settings = recipe["train"] | {"max_steps": 3}
    run = msiam.train(recipe | {"train": settings}, folder=tmp_path / "run", overwrite=True)
    assert run.metrics["training"]["steps"] == 3


def test_the_runs_recipe_says_every_option(recipe, tmp_path):
    run = msiam.train(recipe, folder=tmp_path / "run")
    kept = yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())
    assert kept["towers"]["text"]["pooling"] == "max"
    assert kept["loss"][0]["temperature"] == 0.07
    assert kept["evaluate"][0]["name"] == "retrieval" and len(kept["evaluate"][0]) > 1
    again = msiam.Recipe.read(tmp_path / "run" / "recipe.yaml")
    assert again == run.recipe
    assert msiam.train(again, folder=tmp_path / "run", resume=True).recipe == again


def test_a_finished_run_evaluates_to_the_figures_it_has(recipe, tmp_path):
    run = msiam.train(recipe, folder=tmp_path / "run")
    assert msiam.load(tmp_path / "run").evaluate()["retrieval"] == run.metrics["retrieval"]


@pytest.mark.parametrize("change", ["a row more", "another order", "another text"])
def test_changed_rows_are_never_evaluated_as_held_out(recipe, change, tmp_path):
    msiam.train(recipe, folder=tmp_path / "run")
    rows = {
        "a row more": [*ROWS, {"a": "one", "b": "more"}],
        "another order": ROWS[::-1],
        "another text": [{"a": "why", "b": "not"}, *ROWS[1:]],
    }[change]
    write(tmp_path / "foods.csv", rows)
    run = msiam.load(tmp_path / "run")
    with pytest.raises(errors.RunError, match=r"its tables have changed.*msiam evaluate .* TABLE"):
        run.evaluate()
    assert run.evaluate(rows)["retrieval"]["a_to_b/queries"] == len(rows)


def test_an_unfinished_run_does_not_go_on_with_changed_rows(recipe, tmp_path, monkeypatch):
    def killed(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("msiam.run.training.report_run", killed)
        with pytest.raises(KeyboardInterrupt):
            msiam.train(recipe, folder=tmp_path / "run")
    write(tmp_path / "foods.csv", ROWS[:-1])
    with pytest.raises(errors.RunError, match=r"changed since it was begun.*--overwrite"):
        msiam.train(recipe, folder=tmp_path / "run", resume=True)
    write(tmp_path / "foods.csv", ROWS)
    run = msiam.train(recipe, folder=tmp_path / "run", resume=True)
    assert run.metrics["training"]["steps"] == 2


def test_a_test_table_given_from_python_is_asked_for_again(recipe, tmp_path):
    held_out = [{"a": "where is my tea", "b": "my tea is where"}, {"a": "who", "b": "whom"}]
    run = msiam.train(recipe, test=held_out, folder=tmp_path / "run")
    assert run.metrics["training"]["test_rows"] == 2
    with pytest.raises(errors.RunError, match="rows given from Python; give a table"):
        msiam.load(tmp_path / "run").evaluate()
    assert msiam.load(tmp_path / "run").evaluate(held_out)


def test_evaluating_prepares_the_held_out_items_alone(recipe, tmp_path, monkeypatch):
    monkeypatch.setenv("MSIAM_CACHE", "")  # what training has kept is not prepared again
    run = msiam.train(recipe, folder=tmp_path / "run")
    encoder = run.model.tower("text").encoder
    prepared = []
    prepare = type(encoder).prepare
    monkeypatch.setattr(
        type(encoder), "prepare", lambda self, items: prepared.extend(items) or prepare(self, items)
    )
    run.evaluate()
    assert len(prepared) == 2 * run.metrics["training"]["test_rows"]


def test_a_loss_learns_of_the_training_groups_before_it_begins_and_before_it_resumes(
    recipe, tmp_path, monkeypatch
):
    told = []

    def begin(self, groups, dim):
        told.append((groups, dim))
        self.proxies = torch.nn.Parameter(torch.zeros(len(groups), dim))

    def killed(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(InfoNCE, "begin", begin)
    with monkeypatch.context() as patch:
        patch.setattr("msiam.run.training.report_run", killed)
        with pytest.raises(KeyboardInterrupt):
            msiam.train(recipe, folder=tmp_path / "run")
    # Its checkpoint has the proxies, and would not fit a loss without them.
    run = msiam.train(recipe, folder=tmp_path / "run", resume=True)
    (groups, dim), (again, _) = told
    assert dim == 8
    assert len(groups) == run.metrics["training"]["train_rows"]  # each row is a pair of its own
    assert (groups.diff() > 0).all() and torch.equal(groups, again)
