"""Attributes: further columns of the tables, such as who drew a picture, read for their values."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np

from msiam.data.classes import name_of
from msiam.data.examples import Examples
from msiam.data.sources import Table
from msiam.errors import DataError

#: (table's key, the table's column) -> number of each row's value, int64 (n,).
Attributes = dict[tuple[str, str], np.ndarray]


def collect_attributes(tables: Mapping[str, Table], columns: Collection[str]) -> Attributes:
    """Number the values of columns, each column's in all tables alike, in order of appearance.

    Raises:
        DataError: no such column, or a null (the message has the row).
    """
    found: Attributes = {}
    for column in sorted(columns):
        numbers: dict[str, int] = {}
        for key, table in tables.items():
            found[key, column] = of_rows = np.empty(len(table), np.int64)
            for row, value in enumerate(table.values(column)):
                name = name_of(value)
                if name is None:
                    raise DataError(
                        f"{table.name}: column '{column}': row {row} (from 0) has no value, and "
                        "the split or an evaluator goes by it; give it one or drop the row"
                    )
                of_rows[row] = numbers.setdefault(name, len(numbers))
    return found


def with_attributes(examples: Examples, key: str, attributes: Attributes) -> Examples:
    """The rows of the table ``key``, with what is known of each."""
    of_table = {column: values for (table, column), values in attributes.items() if table == key}
    return replace(
        examples, attributes={c: values[examples.rows] for c, values in of_table.items()}
    )
