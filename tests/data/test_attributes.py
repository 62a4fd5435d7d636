"""Attributes: numbered over tables, told of the rows that are left, and never null."""

from __future__ import annotations

import numpy as np
import pytest

from msiam.data.attributes import collect_attributes, with_attributes
from msiam.data.examples import Examples
from msiam.data.sources import open_table
from msiam.errors import DataError

TABLE = [{"who": "ann", "where": 1}, {"who": "bo", "where": 1.0}, {"who": "ann", "where": 2}]
MORE = [{"who": "bo", "where": "2"}, {"who": "cy", "where": "1"}]


def test_a_value_has_one_number_in_all_tables():
    tables = {"table": open_table(TABLE), "more": open_table(MORE)}
    found = collect_attributes(tables, ["who", "where"])
    assert {place: numbers.tolist() for place, numbers in found.numbers.items()} == {
        ("table", "who"): [0, 1, 0],
        ("more", "who"): [1, 2],
        ("table", "where"): [0, 0, 1],
        ("more", "where"): [1, 0],
    }


def test_rows_keep_theirs_when_some_are_left_out_chosen_or_joined():
    tables = {"table": open_table(TABLE), "more": open_table(MORE)}
    attributes = collect_attributes(tables, ["who"])
    towers = {"a": "t"}
    built = Examples.build({"a": np.array([0, -1, 2])}, towers, classes={"a": np.arange(3)})
    rows = with_attributes(built, "table", attributes)
    assert rows.attributes["who"].tolist() == [0, 0]
    more = Examples.build({"a": np.array([3, 4])}, towers, classes={"a": np.arange(2)})
    more = with_attributes(more, "more", attributes)
    assert more.select(np.array([1])).attributes["who"].tolist() == [2]
    joined = Examples.join([rows, more], towers)
    assert joined.attributes["who"].tolist() == [0, 0, 1, 2]


def test_a_missing_value_is_named():
    table = open_table([{"who": "ann"}, {"who": " "}])
    with pytest.raises(DataError, match=r"column 'who': row 1 \(from 0\) has no value, and the sp"):
        collect_attributes({"table": table}, ["who"])
    with pytest.raises(DataError, match="who"):
        collect_attributes({"table": table}, ["whom"])


def test_values_are_found_by_name_and_one_that_is_not_there_is_named():
    tables = {"table": open_table(TABLE), "more": open_table(MORE)}
    attributes = collect_attributes(tables, ["who", "where"])
    assert attributes.find("who", ["cy", "ann"], "data.split.test").tolist() == [2, 0]
    assert attributes.find("where", [2, "1"], "data.split.test").tolist() == [1, 0]
    with pytest.raises(DataError) as caught:
        attributes.find("who", ["bo", "anne"], "data.split.test")
    assert str(caught.value) == (
        "data.split.test: found 'anne', which is no value of 'who'; did you mean 'ann'? "
        "Known: ann, bo, cy."
    )


def test_an_error_lists_a_few_values_and_counts_many():
    table = open_table([{"who": str(number)} for number in range(1234)])
    attributes = collect_attributes({"table": table}, ["who"])
    with pytest.raises(DataError, match=r"found 'x', which is no value of 'who'; it has 1,234\."):
        attributes.find("who", ["x"], "data.split.test")
