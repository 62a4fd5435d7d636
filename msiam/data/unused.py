"""Columns of a table that nothing reads: said, since one may have been meant as a label."""

from __future__ import annotations

from collections.abc import Collection

from msiam.data.sources import Table
from msiam.recipe import Data
from msiam.towers.model import Model

LOOKED_AT = 1000  # rows


def unused(table: Table, model: Model, data: Data, reads: Collection[str]) -> list[str]:
    """In sentences: which, and where one of them looks as if it told which pairs belong together.

    Args:
        reads: columns that evaluators ask for.
    """
    said = [one.column for one in (data.label, data.score) if one is not None]
    read = {*model.columns, *said, *data.class_columns, *reads, data.split_by}
    left = [column for column in table.dataset.column_names if column not in read]
    if not left:
        return []
    found = [f"Columns that are not used: {', '.join(left)}."]
    if len(model.columns) == 2 and not said and not data.class_columns:
        first = table.dataset.select_columns(left)[:LOOKED_AT]
        found += [
            f"All pairs are taken to belong together. If a 1 in column '{column}' says which do, "
            f"train with --label {column}=1 (data.label)."
            for column in left
            if all(isinstance(value, int) for value in first[column])
            and set(first[column]) == {0, 1}
        ]
    return found
