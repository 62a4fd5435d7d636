"""Attributes: further columns of the tables, such as who drew a picture, read for their values."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from msiam.data.classes import name_of
from msiam.data.examples import Examples
from msiam.data.sources import Table
from msiam.errors import DataError, one_of

FEW = 60  # values that an error lists


@dataclass
class Attributes:
    """Values of columns, numbered.

    Attributes:
        numbers: (table's key, the table's column) -> number of each row's value, int64 (n,).
        names: the table's column -> the number of each value that occurs, by its name.
    """

    numbers: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)
    names: dict[str, dict[str, int]] = field(default_factory=dict)

    def find(self, column: str, values: Sequence[Any], key: str) -> np.ndarray:
        """The numbers of values, int64 (n,).

        Args:
            key: of the recipe, which errors name.

        Raises:
            DataError: the column has no such value.
        """
        names = self.names[column]
        for value in values:
            if name_of(value) not in names:
                few = one_of(str(value), names) if len(names) <= FEW else f"it has {len(names):,}."
                raise DataError(f"{key}: found {value!r}, which is no value of '{column}'; {few}")
        return np.array([names[name_of(value) or ""] for value in values], np.int64)


def collect_attributes(
    tables: Mapping[str, Table],
    columns: Collection[str],
    of_more: Collection[str] | None = None,
) -> Attributes:
    """Number the values of columns, each column's in all tables alike, in order of appearance.

    Args:
        of_more: those of them that are asked of the table "more" as well; None: all.

    Raises:
        DataError: no such column, or a null (the message has the row).
    """
    found = Attributes()
    for column in sorted(columns):
        names = found.names.setdefault(column, {})
        for key, table in tables.items():
            if key == "more" and of_more is not None and column not in of_more:
                continue
            found.numbers[key, column] = of_rows = np.empty(len(table), np.int64)
            for row, value in enumerate(table.values(column)):
                name = name_of(value)
                if name is None:
                    raise DataError(
                        f"{table.name}: column '{column}': row {row} (from 0) has no value, and "
                        "the split or an evaluator goes by it; give it one or drop the row"
                    )
                of_rows[row] = names.setdefault(name, len(names))
    return found


def with_attributes(examples: Examples, key: str, attributes: Attributes) -> Examples:
    """The rows of the table ``key``, with what is known of each."""
    of_table = {
        column: values for (table, column), values in attributes.numbers.items() if table == key
    }
    return replace(
        examples, attributes={c: values[examples.rows] for c, values in of_table.items()}
    )
