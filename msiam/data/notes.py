"""What is said of the data as it is opened, in sentences."""

from __future__ import annotations

from pathlib import Path

from msiam.data.examples import Examples
from msiam.data.sources import Table
from msiam.recipe import Data


def labelled(table: Table, data: Data, examples: Examples) -> list[str]:
    """What the labels say of the table's pairs, in a sentence."""
    if data.label is None or examples.same is None:
        return []
    same, n = int(examples.same.sum()), len(examples)
    return [
        f"Column '{data.label.column}' of {Path(table.name).name}: {same:,} pairs are the same "
        f"({data.label.same}), {n - same:,} are not."
    ]


def dropped_rows(table: Table, part: str, rows: int, by: str) -> list[str]:
    """What leaving leaking rows out took, in a sentence."""
    if not rows:
        return []
    what = {"item": "items", "class": "classes"}.get(by, f"items or a '{by}'")
    name = Path(table.name).name
    return [f"{rows:,} training rows of {name} were left out: they share {what} with {part}."]
