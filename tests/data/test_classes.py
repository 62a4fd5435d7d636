"""Classes: one numbering over columns and tables; an item of two classes is rejected."""

from __future__ import annotations

import numpy as np
import pytest

from msiam.data.classes import Classes
from msiam.data.items import Items
from msiam.data.sources import open_table
from msiam.errors import DataError

ONE = {"left": "text"}
TWO = {"left": "text", "right": "text"}
APART = {"left": "text", "right": "other"}


def collect(words, rows, towers=ONE, more=None):
    return collect_both(words, rows, towers, more)[0]


def collect_both(words, rows, towers=ONE, more=None):
    """The classes, and the items of each tower."""
    tables = {"table": open_table(rows)}
    if more is not None:
        tables["more"] = open_table(more)
    items = {
        tower: Items.collect(tables, [c for c, t in towers.items() if t == tower], tower, words)
        for tower in set(towers.values())
    }
    sources = {"left": "kind"} if len(towers) == 1 else {"left": "kind", "right": "sort"}
    classes = Classes.collect(tables, sources, items, towers)
    classes.set_aside(items)
    return classes, items


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([3, 1, 3], ["3", "1", "3"]),
        ([3.0, 1.5, 3.0], ["3", "1.5", "3"]),
        (["no", " no ", "0"], ["no", "no", "0"]),  # a text is a name, and never a truth value
        ([True, False, True], ["True", "False", "True"]),
    ],
)
def test_a_class_is_known_by_its_name(words, values, names):
    rows = [{"left": f"word {n}", "kind": value} for n, value in enumerate(values)]
    found = collect(words, rows)
    assert [found.names[number] for number in found.numbers["table", "left"]] == names


def test_one_name_is_one_class_in_every_column_and_table(words):
    rows = [{"left": "a", "right": "b", "kind": 1, "sort": "2"}]
    more = [{"left": "c", "right": "d", "kind": "2", "sort": 1}]
    found = collect(words, rows, TWO, more)
    assert found.names == ["1", "2"]
    assert {place: n.tolist() for place, n in found.numbers.items()} == {
        ("table", "left"): [0],
        ("table", "right"): [1],
        ("more", "left"): [1],
        ("more", "right"): [0],
    }


@pytest.mark.parametrize("value", [None, "", "  ", float("nan")])
def test_a_row_without_a_class_is_named(words, value):
    filled = 1.0 if isinstance(value, float) else "x"
    rows = [{"left": "a", "kind": filled}, {"left": "b", "kind": value}]
    with pytest.raises(DataError, match=r"column 'kind': row 1 \(from 0\) has no class; give it"):
        collect(words, rows)


def test_an_item_of_two_classes_is_rejected_in_all_its_rows(words):
    rows = [
        {"left": "cat", "kind": "animal"},
        {"left": "oak", "kind": "plant"},
        {"left": "cat", "kind": "plant"},
    ]
    items = collect_both(words, rows)[1]["text"]
    assert items.numbers["table", "left"].tolist() == [-1, 1, -1]
    assert [(found.row, found.column) for found in items.rejected] == [(0, "left"), (2, "left")]
    assert {found.reason for found in items.rejected} == {
        "of two classes: 'animal' in the given list: column 'kind': row 0 (from 0), 'plant' in "
        "the given list: column 'kind': row 2 (from 0)"
    }


def test_it_is_one_item_in_two_columns_of_one_tower_and_two_in_those_of_two(words):
    rows = [
        {"left": "cat", "right": "dog", "kind": "a", "sort": "b"},
        {"left": "oak", "right": "cat", "kind": "c", "sort": "b"},
    ]
    items = collect_both(words, rows, TWO)[1]["text"]
    assert [(found.row, found.column) for found in items.rejected] == [(0, "left"), (1, "right")]
    found, items = collect_both(words, rows, APART)
    assert found.names == ["a", "c", "b"]
    assert not items["text"].rejected and not items["other"].rejected


def test_items_that_cannot_be_read_are_no_item_together(words):
    rows = [{"left": None, "kind": "a"}, {"left": None, "kind": "b"}, {"left": "x", "kind": "a"}]
    assert collect(words, rows).numbers["table", "left"].tolist() == [0, 1, 0]


def test_no_such_column(words):
    with pytest.raises(DataError, match="no column 'kind'"):
        collect(words, [{"left": "a", "kin": 1}])


def test_an_item_that_is_no_member_of_the_class_that_its_row_names_is_alone(words):
    rows = [{"left": word, "kind": kind} for word, kind in zip("abcda", "xxyxx", strict=True)]
    tables = {"table": open_table(rows), "more": open_table([{"left": "e", "kind": "y"}])}
    items = {"text": Items.collect(tables, ["left"], "text", words)}
    members = {"table": np.array([True, False, True, False, True])}
    found = Classes.collect(tables, {"left": "kind"}, items, ONE, members)
    assert found.names == ["x", "not x", "y", "not x"]
    assert found.numbers["table", "left"].tolist() == [0, 1, 2, 3, 0]
    assert found.claims["table"].tolist() == [0, 0, 2, 0, 0]
    assert found.numbers["more", "left"].tolist() == found.claims["more"].tolist() == [2]


def test_an_item_cannot_be_a_member_of_a_class_and_not(words):
    rows = [{"left": "a", "kind": "x"}, {"left": "a", "kind": "x"}]
    tables = {"table": open_table(rows)}
    items = {"text": Items.collect(tables, ["left"], "text", words)}
    members = {"table": np.array([True, False])}
    Classes.collect(tables, {"left": "kind"}, items, ONE, members).set_aside(items)
    assert items["text"].numbers["table", "left"].tolist() == [-1, -1]
    assert items["text"].rejected[0].reason.startswith("of two classes: 'x' in the given list: ")


def test_of_several_columns_each_combination_is_a_class(words):
    tables = {
        "table": open_table(
            [
                {"left": f"word {n}", "alphabet": alphabet, "number": number}
                for n, (alphabet, number) in enumerate([("A", 1), ("B", 1), ("A", 2), ("A", 1.0)])
            ]
        )
    }
    items = {"text": Items.collect(tables, ["left"], "text", words)}
    found = Classes.collect(tables, {"left": ["alphabet", "number"]}, items, ONE)
    assert found.names == ["A / 1", "B / 1", "A / 2"]
    assert found.numbers["table", "left"].tolist() == [0, 1, 2, 0]


@pytest.mark.parametrize(
    "row", [{"alphabet": None, "number": "1"}, {"alphabet": "A", "number": ""}]
)
def test_of_several_columns_none_may_be_null(words, row):
    tables = {
        "table": open_table([{"left": "a", "alphabet": "A", "number": "1"}, {"left": "b", **row}])
    }
    items = {"text": Items.collect(tables, ["left"], "text", words)}
    with pytest.raises(DataError, match=r"column 'alphabet' and 'number': row 1 \(from 0\) has no"):
        Classes.collect(tables, {"left": ["alphabet", "number"]}, items, ONE)
