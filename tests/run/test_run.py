"""A run, opened: what is damaged or missing in its folder is named."""

from __future__ import annotations

import shutil

import pytest

import msiam
from msiam.errors import RunError

TEXT = {"encoder": "lstm", "dim": 8, "hidden": 8, "min_count": 1}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    lines = [f"cook {food},how to cook {food}" for food in "abcdefghijklmnop"]
    (folder / "foods.csv").write_text("\n".join(["a,b", *lines]))
    recipe = {
        "data": {"table": str(folder / "foods.csv")},
        "columns": {"a": "text", "b": "text"},
        "towers": {"text": TEXT},
        "train": {"max_steps": 1, "batch_size": 8},
    }
    return msiam.train(recipe, folder=folder / "run").folder.path


@pytest.fixture
def folder(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


@pytest.mark.parametrize("name", ["metrics.json", "calibration.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"\xff"])
def test_a_damaged_file_is_named(folder, name, content):
    (folder / name).write_bytes(content)
    with pytest.raises(RunError, match=rf"run/{name}: is damaged \(.*\); copy the whole run again"):
        msiam.load(folder)


def test_a_calibration_that_is_missing_or_none_is_named(folder):
    (folder / "calibration.json").write_text("{}")
    with pytest.raises(RunError, match=r"calibration\.json: is damaged .*threshold.*; copy"):
        msiam.load(folder)
    (folder / "calibration.json").unlink()
    with pytest.raises(RunError, match=r"run/calibration\.json: is missing; copy the whole run"):
        msiam.load(folder)


def test_damaged_notes_of_its_rows_are_named(folder):
    assert msiam.load(folder).evaluate()
    (folder / "data.json").write_text('{"digest')
    with pytest.raises(RunError, match=r"run/data\.json: is damaged \(.*\); copy the whole run"):
        msiam.load(folder).evaluate()


def test_it_says_what_it_is(trained):
    assert repr(msiam.load(trained)) == f"Run('{trained}', columns: a, b)"
