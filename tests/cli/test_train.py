"""msiam train: what its options stand for, and which of them a recipe has itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from command_line import run_command

from msiam.cli.train import what_is_said
from msiam.errors import RecipeError


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--loss", "triplet"], "--loss"),
        (["--label", "is_duplicate=1"], "--label"),
        (["--score", "similarity=3"], "--score"),
        (["--classes", "kind"], "--classes"),
        (["--shared"], "--shared"),
        (["--loss", "triplet", "--shared"], "--shared and --loss"),
    ],
)
def test_what_a_recipe_says_itself_is_refused_beside_it(
    tmp_path: Path, options: list[str], named: str
) -> None:
    (tmp_path / "my.yaml").write_text("name: mine\n")
    done = run_command("train", "my.yaml", *options, cwd=tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"msiam: train: found {named} with a recipe") and "--set" in line


def test_a_label_is_cut_at_its_first_equals_sign() -> None:
    assert what_is_said("kind=a=1,b=2", None, None) == {
        "label": {"column": "kind", "same": "a=1,b=2"}
    }
    assert what_is_said("is_duplicate=1", None, None)["label"]["same"] == 1


@pytest.mark.parametrize("label", ["is_duplicate", "is_duplicate=", "=1"])
def test_a_label_without_column_or_value(label: str) -> None:
    with pytest.raises(RecipeError, match=f"--label {label}: write it as COLUMN=VALUE"):
        what_is_said(label, None, None)


def test_labels_that_are_texts_with_commas(tmp_path: Path) -> None:
    rows = [f'a {n},b {n},"{"yes, both" if n % 2 else "no, none"}"' for n in range(60)]
    (tmp_path / "t.csv").write_text("\n".join(["title,body,kind", *rows]))
    done = run_command(
        "train", "--data", "t.csv", "--columns", "title=lstm,body=lstm", "--shared",
        "--label", "kind=yes, both", "--set", "train.max_steps=1", "--out", "run", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    recipe = yaml.safe_load((tmp_path / "run/recipe.yaml").read_text())
    assert recipe["data"]["label"] == {"column": "kind", "same": "yes, both"}


def test_three_columns_of_which_more_is_said_are_no_triplets(tmp_path: Path) -> None:
    """So a teacher's margins get the loss that is theirs."""
    rows = [f"a {n},b {n},c {n},{n / 60}" for n in range(60)]
    (tmp_path / "t.csv").write_text("\n".join(["a,b,c,margin", *rows]))
    words = ("train", "--data", "t.csv", "--columns", "a=lstm,b=lstm,c=lstm", "--shared")
    words += ("--set", "train.max_steps=1")
    for more, loss in ((["--score", "margin"], "margin_mse"), ([], "triplet")):
        done = run_command(*words, *more, "--out", loss, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        recipe = yaml.safe_load((tmp_path / loss / "recipe.yaml").read_text())
        assert [term["name"] for term in recipe["loss"]] == [loss]
