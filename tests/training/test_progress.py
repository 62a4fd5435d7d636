"""What a training shows as it goes."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

import msiam
from msiam.training import progress

STEPS = 6
ROWS = [{"a": f"cook {food}", "b": f"how to cook {food}"} for food in "abcdefghijklmnop"]
RECIPE = {
    "name": "run",
    "data": {"table": "given"},
    "columns": {"a": "text", "b": "text"},
    "towers": {"text": {"encoder": "lstm", "dim": 8, "hidden": 8, "min_count": 1}},
    "loss": "infonce",
    "train": {"max_steps": STEPS, "batch_size": 4, "evaluations": 2},
}
LINE = r"step +(\d) of 6 · (?:loss [\d.]+ · )?[\d,.]+ pairs/s · \d:\d\d:\d\d left"


@pytest.fixture(autouse=True)
def at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "EVERY", 0.0)


def shown(folder: Path, **console: bool) -> str:
    said = io.StringIO()
    msiam.train(RECIPE, ROWS, folder=folder, console=Console(file=said, width=200, **console))
    return said.getvalue()


def test_a_file_gets_lines_of_how_far_it_is_and_how_long_it_takes_yet(tmp_path: Path) -> None:
    said = shown(tmp_path / "run")
    assert re.findall(LINE, said) == list("123456")
    assert re.findall(r"step +(\d) · .*validation map [\d.]+\n", said) == list("036")


def test_a_terminal_has_the_bar_instead(tmp_path: Path) -> None:
    said = shown(tmp_path / "run", force_terminal=True)
    assert "pairs/s" in said and not re.search(LINE, said)


def test_from_python_it_goes_to_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    msiam.train(RECIPE, ROWS, folder=tmp_path / "run")
    out, err = capsys.readouterr()
    assert re.search(LINE, err) and not out
