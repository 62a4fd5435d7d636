from __future__ import annotations

import pytest

from msiam import Model
from msiam.data.sources import open_table
from msiam.data.unused import unused
from msiam.recipe import Data

TOWERS = {"text": {"encoder": "lstm", "dim": 8}}
ROWS = [{"a": f"a {n}", "b": f"b {n}", "is_duplicate": n % 2, "n": n} for n in range(6)]


def said(rows=ROWS, columns=("a", "b"), reads=(), **data):
    model = Model(TOWERS, dict.fromkeys(columns, "text"))
    return unused(open_table(rows), model, Data(table="t", **data), reads)


def test_what_looks_like_a_label_and_is_not_named_is_pointed_out():
    first, second = said()
    assert first == "Columns that are not used: is_duplicate, n."
    assert "train with --label is_duplicate=1" in second
    as_bool = [{**row, "is_duplicate": bool(row["is_duplicate"])} for row in ROWS]
    assert len(said(as_bool)) == 2


def test_where_all_is_read_nothing_is_said():
    assert said(reads=["n"], label={"column": "is_duplicate", "same": 1}) == []


@pytest.mark.parametrize(
    "values", [[0, 1, 2], [1, 1, 1], ["0", "1", "0"], [0.0, 1.0, 0.5], [[0], [1], [1]]]
)
def test_other_columns_are_only_named(values):
    rows = [{**row, "is_duplicate": value} for row, value in zip(ROWS, values, strict=False)]
    assert said(rows, reads=["n"]) == ["Columns that are not used: is_duplicate."]


def test_of_items_with_classes_no_label_is_missed():
    rows = [{**row, "kind": "k"} for row in ROWS]
    assert len(said(rows, columns=["a"], classes={"a": "kind"})) == 1
