"""What is mined: the training part of a run's own table, or the whole of another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from msiam.data.classes import Classes
from msiam.data.examples import Examples
from msiam.data.items import Items
from msiam.data.parts import examples_of, training_parts
from msiam.data.sources import Table, open_table
from msiam.errors import RunError
from msiam.recipe import GIVEN, Recipe
from msiam.run.run import Run, check_rows
from msiam.towers.model import Model


@dataclass
class Mineable:
    """The rows to mine, with what may be nobody's negative.

    Attributes:
        table: the table they are of, by whose columns the result is written.
        items: by tower.
        rows: table's name -> how many rows it has.
        held_out: item numbers by tower, of the parts that are not mined.
    """

    table: Table
    items: dict[str, Items]
    examples: Examples
    rows: dict[str, int]
    held_out: dict[str, np.ndarray]


def own_part(run: Run, recipe: Recipe) -> Mineable:
    """The training part of the run's own table."""
    place, model = run.folder, run.model
    instead = f"give a table: msiam mine {place.path} TABLE"
    if GIVEN in (recipe.data.table, recipe.data.test):
        raise RunError(
            f"{place.path}: was trained on rows given from Python; give them again, "
            f"msiam.mine(run, rows), or {instead}"
        )
    table = open_table(recipe.data.table)
    parts = training_parts(recipe.data, model, recipe.train.seed, table)
    check_rows(place, parts, instead)
    others = [examples for part, examples in parts.examples.items() if part != "train"]
    of_leaders = {
        tower: np.unique(
            np.concatenate(
                [
                    e.distinct_items(c for c, t in model.numbering.items() if t == tower)
                    for e in others
                ]
            )
        )
        for tower in model.leaders
    }
    held_out = {tower: of_leaders[model.leader(tower)] for tower in model.towers}
    return Mineable(table, parts.items, parts.examples["train"], parts.rows, held_out)


def whole_table(table: Table, recipe: Recipe, model: Model, pair: tuple[str, str]) -> Mineable:
    """All rows of another table. One without the recipe's label or score holds positive pairs."""
    columns = {column: model.numbering[column] for column in pair}
    data = recipe.data
    update: dict[str, Any] = {}
    for key in ("label", "score"):
        said = getattr(data, key)
        if said is not None and said.column not in table.dataset.column_names:
            update[key] = None
    if data.classes is not None:
        update["classes"] = {column: data.classes[column] for column in columns}
    data = data.model_copy(update=update)
    items = {
        tower: Items.collect(
            {"table": table},
            [c for c, t in columns.items() if t == tower],
            tower,
            model.tower(tower).encoder,
        )
        for tower in dict.fromkeys(columns.values())
    }
    items |= {model.columns[column]: items[tower] for column, tower in columns.items()}
    classes = Classes.collect({"table": table}, data.classes or {}, items, columns)
    examples = examples_of("table", table, items, classes, columns, data)
    classes.set_aside(items)
    return Mineable(table, items, examples, {table.name: len(table)}, {})
