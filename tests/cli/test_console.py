"""What commands share."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest

from msiam.cli.console import print_json, print_metrics


def refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def test_what_is_printed_for_scripts_is_json_of_all_values(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A record may hold what JSON has not."""
    record = {
        "nan": float("nan"), "lists": [1.5, float("-inf")], "day": datetime.date(2026, 1, 2),
        "path": Path("a/b"), "text": "été", "bytes": b"ab", "none": None, "count": 3,
    }  # fmt: skip
    print_json([record])
    out, err = capsys.readouterr()
    assert json.loads(out, parse_constant=refuse) == [
        {
            "nan": None, "lists": [1.5, None], "day": "2026-01-02", "path": "a/b", "text": "été",
            "bytes": "YWI=", "none": None, "count": 3,
        }
    ]  # fmt: skip
    assert "été" in out and out.endswith("]\n") and not err


def test_figures_say_which_are_counts_and_which_errors(capsys: pytest.CaptureFixture[str]) -> None:
    figures = {"same": 6.0, "eer": 0.125, "eer/low": 0.1, "eer/high": 0.15, "chance/eer": 0.5}
    print_metrics({"verification": figures})
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["same", "6"] in lines
    assert ["eer", "(lower", "is", "better)", "0.1250", "0.100", "to", "0.150", "0.5000"] in lines
