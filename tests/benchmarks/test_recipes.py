"""What ``make recipes`` trains, and what it writes into docs/results.md."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
spec = importlib.util.spec_from_file_location("recipes", ROOT / "benchmarks/recipes.py")
recipes = sys.modules["recipes"] = importlib.util.module_from_spec(spec)
with pytest.MonkeyPatch.context() as patch:
    # As where Python runs the file itself. No longer: benchmarks/losses.py is not tests/losses.
    patch.syspath_prepend(str(ROOT / "benchmarks"))
    spec.loader.exec_module(recipes)

RECIPE = {
    "data": {"table": "t.csv", "label": {"column": "same", "same": 1}},
    "columns": {"a": "t", "b": "t"},
    "towers": {"t": {"encoder": "lstm"}},
}
TABLE = """| [quora](../configs/quora.yaml) | auc | 0.111 | | 0.85 (missed) | | | 1.0 |
| [text_image](../configs/text_image.yaml) | recall@10 | 0.222 | | 0.50 (missed) | | | 2.0 |
"""
UNTRAINED = (
    "| [quora_scratch](../configs/quora_scratch.yaml) | auc | not trained yet |  | reported "
    "| chance | elsewhere |  |"
)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A checkout with three recipes without a run, two of which have a row in the page."""
    monkeypatch.setattr(recipes, "ROOT", tmp_path)
    monkeypatch.setattr(recipes, "RESULTS", tmp_path / "results.md")
    monkeypatch.setattr(recipes, "NOTES", {"quora": "more words.", "quora_scratch": "few."})
    kept = {name: recipes.FIGURES[name] for name in ("quora", "quora_scratch", "text_image")}
    kept["quora_scratch"] = recipes.Figure(
        "verification", "auc", None, "chance", elsewhere="elsewhere"
    )
    kept["text_image"] = recipes.Figure("verification", "auc", 0.5, "")
    monkeypatch.setattr(recipes, "FIGURES", kept)
    parts = ("before\n", recipes.BEGIN, recipes.HEADING, TABLE, recipes.END, "after\n")
    (tmp_path / "results.md").write_text("".join(parts))
    (tmp_path / "configs").mkdir()
    for name in kept:
        (tmp_path / f"configs/{name}.yaml").write_text(yaml.safe_dump(RECIPE))
    return tmp_path


def write_run(root, name, value=None, recipe=RECIPE):
    """A run of the recipe; without a value it is not finished."""
    run = root / "runs" / name
    run.mkdir(parents=True, exist_ok=True)
    (run / "recipe.yaml").write_text(yaml.safe_dump({"name": name, **recipe}))
    if value is not None:
        metrics = {"verification": {"auc": value}, "training": {"seconds": 60}}
        (run / "metrics.json").write_text(json.dumps(metrics))


@pytest.fixture
def called(root, monkeypatch):
    """The commands that were called; each writes its run, but for text_image's, which fails."""
    commands = []

    def run(command, cwd):
        commands.append(command[1:])
        name = Path(command[2]).stem
        if name != "text_image":
            write_run(root, name, 0.9)
        return subprocess.CompletedProcess(command, int(name == "text_image"))

    monkeypatch.setattr(recipes.subprocess, "run", run)
    return commands


def main(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["recipes.py", *arguments])
    return recipes.main()


def rows(root):
    return [line for line in (root / "results.md").read_text().splitlines() if "](../conf" in line]


def notes(root):
    """What stands below the table, by recipe."""
    _, _, below = (root / "results.md").read_text().partition(recipes.BELOW)
    entries = [line for line in below.splitlines() if line.startswith("- ")]
    return {line.split("**")[1]: line.split(": ", 1)[1] for line in entries}


def test_a_recipe_without_a_run_here_keeps_its_row_and_without_one_anywhere_is_untrained(
    root, monkeypatch
):
    assert main(monkeypatch, "--report-only") == 1  # none was judged
    quora, scratch, text_image = rows(root)
    assert [quora, text_image] == TABLE.splitlines()
    assert scratch == UNTRAINED
    page = (root / "results.md").read_text()
    assert main(monkeypatch, "--report-only") == 1
    assert (root / "results.md").read_text() == page  # written twice, it is the same
    write_run(root, "text_image", 0.7)
    assert main(monkeypatch, "--report-only") == 0
    assert rows(root)[:2] == [quora, scratch]
    assert "| 0.700 |" in rows(root)[2] and "missed" not in rows(root)[2]
    page = (root / "results.md").read_text()
    assert page.startswith("before\n") and page.endswith(recipes.END + "after\n")


def test_what_was_tried_stands_below_where_a_figure_is_missed_or_there_is_none(root, monkeypatch):
    main(monkeypatch, "--report-only")
    assert notes(root) == {"quora": "more words.", "quora_scratch": "few."}
    for name in ("quora", "quora_scratch", "text_image"):
        write_run(root, name, 0.9)
    assert main(monkeypatch, "--report-only") == 0
    assert notes(root) == {} and recipes.BELOW not in (root / "results.md").read_text()
    write_run(root, "quora", 0.8)
    assert main(monkeypatch, "--report-only") == 1
    assert notes(root) == {"quora": "more words."}


def test_a_second_figure_has_a_row_of_its_own_and_is_judged_too(root, monkeypatch):
    second = recipes.Figure("verification", "*/auc", 0.5, "")
    recipes.FIGURES["quora"] = recipes.Figure("verification", "auc", 0.85, "", second)
    write_run(root, "quora", 0.9)
    metrics = root / "runs/quora/metrics.json"
    found = {"auc": 0.9, "easy/auc": 0.8, "hard/auc": 0.6, "hard/auc/low": 0.55, "hard/eer": 0.1}
    found["hard/auc/high"] = 0.65
    metrics.write_text(json.dumps({"verification": found, "training": {"seconds": 60}}))
    assert main(monkeypatch, "--report-only") == 0
    first, other, _, text_image = rows(root)
    assert first.startswith("| [quora](../configs/quora.yaml) | auc | 0.900 |")
    assert "| hard/auc, the lowest of */auc | 0.600 | 0.550 to 0.650 | 0.50 |" in other
    assert text_image == TABLE.splitlines()[1]
    found["hard/auc"] = 0.4
    metrics.write_text(json.dumps({"verification": found, "training": {"seconds": 60}}))
    assert main(monkeypatch, "--report-only") == 1
    assert "(missed)" in rows(root)[1] and "(missed)" not in rows(root)[0]
    metrics.unlink()  # without its run, both rows stay
    assert main(monkeypatch, "--report-only") == 1
    assert len(rows(root)) == 4 and "(missed)" in rows(root)[1]


def test_what_fails_does_not_stop_the_rest(root, called, monkeypatch, capsys):
    assert main(monkeypatch) == 1
    assert [Path(command[1]).stem for command in called] == list(recipes.FIGURES)
    assert [row.split("]")[0] for row in rows(root)] == [
        "| [quora",
        "| [quora_scratch",
        "| [text_image",
    ]
    assert "| 0.900 |" in rows(root)[0] and "| 0.222 |" in rows(root)[2]
    assert "text_image: could not be trained" in capsys.readouterr().out
    assert main(monkeypatch, "quora", "quora_scratch") == 0


def test_a_figure_that_is_missed_is_a_failure_where_it_was_asked_for(root, called, monkeypatch):
    write_run(root, "quora", 0.8)
    assert main(monkeypatch, "quora") == 1
    assert main(monkeypatch, "quora_scratch") == 0
    assert "(missed)" in rows(root)[0]


@pytest.mark.parametrize(
    ("value", "recipe", "options"),
    [
        (0.9, RECIPE, None),  # finished: not trained again
        (None, RECIPE, ["--resume"]),
        (0.9, {**RECIPE, "train": {"epochs": 99}}, ["--overwrite"]),
        (None, {**RECIPE, "train": {"epochs": 99}}, ["--overwrite"]),
        (0.9, {"unreadable": 1}, ["--overwrite"]),
    ],
)
def test_a_run_is_used_where_it_is_of_this_very_recipe(root, called, value, recipe, options):
    write_run(root, "quora", value, recipe)
    assert recipes.train("quora")
    assert called == ([] if options is None else [["train", "configs/quora.yaml", *options]])


def test_a_recipe_with_its_defaults_said_is_the_same_one(root):
    said = {
        **RECIPE,
        "towers": {"t": {"encoder": "lstm", "dim": 256, "hidden": 256}},
        "loss": {"name": "contrastive", "balanced": False},
        "train": {"seed": 0},
    }
    write_run(root, "quora", 0.9, said)
    assert recipes.finished("quora")
    said["towers"]["t"]["hidden"] = 255
    write_run(root, "quora", 0.9, said)
    assert not recipes.finished("quora")


def test_an_unknown_recipe_is_named_with_the_nearest(root, monkeypatch, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(monkeypatch, "quoro")
    assert stopped.value.code == 2
    assert "no recipe 'quoro'; did you mean 'quora'?" in capsys.readouterr().err


@pytest.mark.parametrize(("eer", "reached"), [(0.04, True), (0.05, True), (0.06, False)])
def test_an_error_rate_is_to_be_at_most_its_goal(root, eer, reached):
    recipes.FIGURES["quora"] = recipes.Figure("verification", "5_references/eer", 0.05, "")
    found = {"verification": {"5_references/eer": eer}, "training": {"seconds": 60}}
    line, judged = recipes.row("quora", found)
    assert judged == reached
    assert ("at most 0.05 (missed)" in line) != reached and "at most 0.05" in line


def test_of_a_wildcard_chance_is_no_figure_of_the_model(root, monkeypatch):
    figure = recipes.Figure("retrieval", "*_to_*/mrr", 0.5, "chance")
    monkeypatch.setitem(recipes.FIGURES, "quora", figure)
    found = {"a_to_b/mrr": 0.7, "b_to_a/mrr": 0.6, "a_to_b/chance/mrr": 0.1}
    line, reached = recipes.row("quora", {"retrieval": found, "training": {"seconds": 60.0}})
    assert reached and "| b_to_a/mrr, the lowest of *_to_*/mrr | 0.600 |" in line
