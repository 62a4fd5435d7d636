"""What commands share."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest

from msiam.cli.console import print_json


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
