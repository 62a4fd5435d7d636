"""Classes: which class each row's item is of, numbered over all columns and tables."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from msiam.data.examples import Towers
from msiam.data.items import Items
from msiam.data.sources import Table
from msiam.errors import DataError

Place = tuple[Table, str | Sequence[str], int]


@dataclass
class Classes:
    """The classes of a recipe's tables.

    Attributes:
        names: the name of each class, by number, in order of appearance.
        numbers: (table's key, the model's column) -> class of each row's item, int64 (n,).
        claims: table's key -> class that each row names, int64 (n,), where a label says whether
            its item is a member of it. An item that is none is alone in a class.
        twofold: tower -> item that has one class in one row and another in another, with both
            places: nothing can be learnt from it. ``set_aside`` rejects it.
    """

    names: list[str] = field(default_factory=list)
    numbers: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)
    claims: dict[str, np.ndarray] = field(default_factory=dict)
    twofold: dict[str, dict[int, str]] = field(default_factory=dict)

    @classmethod
    def collect(
        cls,
        tables: Mapping[str, Table],
        classes: Mapping[str, str | Sequence[str]],
        items: Mapping[str, Items],
        towers: Towers,
        members: Mapping[str, np.ndarray] | None = None,
    ) -> Classes:
        """Number the classes in all tables. One name is one class, whichever column it stands in.

        Args:
            classes: the model's column -> the table's column with the classes of its items. Of
                several columns a class is one combination of their values, as an alphabet and a
                character's number.
            members: table's key -> whether each row's item, of the only column, is a member of the
                class that the row names, bool (n,); a table that is not there has members alone.

        Raises:
            DataError: no such column, or a null (the message has the row).
        """
        names: list[str] = []
        numbers: dict[Hashable, int] = {}

        def number(key: Hashable, name: str) -> int:
            if key not in numbers:
                names.append(name)
            return numbers.setdefault(key, len(numbers))

        found: dict[tuple[str, str], np.ndarray] = {}
        claims: dict[str, np.ndarray] = {}
        first: dict[tuple[str, int], tuple[str, Place]] = {}  # by tower, item
        twofold: dict[str, dict[int, str]] = {tower: {} for tower in towers.values()}
        for key, table in tables.items():
            for column, source in classes.items():
                tower = towers[column]
                found[key, column] = of_rows = np.empty(len(table), np.int64)
                of_items = items[tower].numbers[key, column].tolist()
                for row, (name, item) in enumerate(
                    zip(_names(table, source), of_items, strict=True)
                ):
                    here = (table, source, row)
                    if name is None:
                        raise DataError(
                            f"{_place(*here)} has no class; give it one or drop the row"
                        )
                    of_rows[row] = number(name, name)
                    if members is not None:
                        claims.setdefault(key, np.empty(len(table), np.int64))[row] = of_rows[row]
                        if key in members and not members[key][row]:
                            name = f"not {name}"
                            of_rows[row] = number((item, name), name)
                    before, place = first.setdefault((tower, item), (name, here))
                    if before != name and item >= 0:
                        twofold[tower][item] = (
                            f"of two classes: '{before}' in {_place(*place)}, '{name}' in "
                            f"{_place(*here)}"
                        )
        return cls(names, found, claims, twofold)

    def set_aside(self, items: Mapping[str, Items]) -> None:
        """Reject items of two classes. After a split, which then is that of data without classes:
        what one training may see, another one does not measure.
        """
        for tower, reasons in self.twofold.items():
            items[tower].reject(reasons)


def _place(table: Table, column: str | Sequence[str], row: int) -> str:
    columns = f"'{column}'" if isinstance(column, str) else " and ".join(map(repr, column))
    return f"{table.name}: column {columns}: row {row} (from 0)"


def _names(table: Table, source: str | Sequence[str]) -> Iterator[str | None]:
    """Each row's class by name; None where one of its columns is null."""
    columns = [source] if isinstance(source, str) else source
    for values in zip(*(table.values(column) for column in columns), strict=True):
        names = [name_of(value) for value in values]
        yield None if None in names else " / ".join(filter(None, names))


def name_of(value: Any) -> str | None:
    """A value in one spelling, whatever a table's type: 3, 3.0 and "3" are one; None: null."""
    if isinstance(value, float):
        if math.isnan(value):
            return None
        value = int(value) if value.is_integer() else value
    return None if value is None else str(value).strip() or None
