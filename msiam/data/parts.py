"""A recipe's tables as three parts that share no item: train, validation and test."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from msiam.data.attributes import Attributes, collect_attributes, with_attributes
from msiam.data.classes import Classes
from msiam.data.contents import identity
from msiam.data.draws import check_draws
from msiam.data.examples import Examples, labels, scores
from msiam.data.items import ALLOWED_SHARE, Items, RejectedRow, write_rejected
from msiam.data.notes import dropped_rows, labelled
from msiam.data.shares import UNSEEN, trained_on, unseen_classes
from msiam.data.sources import Source, Table, open_table
from msiam.data.splits import require_classes, split, without_leaks
from msiam.data.splits_by_column import split_by_column
from msiam.data.unused import unused
from msiam.errors import DataError
from msiam.recipe import Data
from msiam.recipe_data import Held
from msiam.towers.model import Model

Progress = Callable[[int], object]


@dataclass
class Parts:
    """What a model is trained and measured on.

    Attributes:
        items: by tower, its distinct items over all tables; a tower that follows another shares
            them with it.
        examples: by part ("train", "validation", "test", "unseen"); a part may be missing. They
            lack the columns that are drawn for each batch.
        rows: table's name -> how many rows it has.
        notes: what was left out, and why, in plain sentences.
        rejected: rows set aside since an item of theirs cannot be read.
        classes: the name of each class by number, where the data has classes.
        negatives: kinds of different pairs that are made for measuring; see ``Embedded``.
    """

    items: dict[str, Items]
    examples: dict[str, Examples]
    rows: dict[str, int]
    notes: list[str] = field(default_factory=list)
    rejected: list[RejectedRow] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    negatives: Mapping[str, str] = field(default_factory=dict)

    @property
    def held_out(self) -> str:
        """The part that figures are reported on: the test, or validation where there is none."""
        return "test" if "test" in self.examples else "validation"

    def digest(self) -> str:
        """Changes with any item (of a file, its name), any row, and the part that a row is in."""
        digest = hashlib.sha256()
        for name, items in sorted(self.items.items()):
            digest.update(f"{name} {len(items)}\n".encode())
            for value in items.values:
                if isinstance(value, str) and value.startswith("/"):  # data may be moved as a whole
                    value = Path(value).name
                digest.update(repr(identity(value)).encode())
        for part, examples in sorted(self.examples.items()):
            digest.update(part.encode())
            for numbers in (*examples.columns.values(), examples.rows):
                digest.update(np.ascontiguousarray(numbers).data)
            said = (
                examples.same,
                examples.scores,
                *(examples.classed * [*examples.groups.values()]),
                examples.claims,
            )
            for values in said:
                if values is not None:
                    digest.update(np.ascontiguousarray(values).data)
        return digest.hexdigest()[:16]


def training_parts(
    data: Data,
    model: Model,
    seed: int,
    source: Source | None = None,
    test: Source | None = None,
    reads: Collection[str] = (),
) -> Parts:
    """Open the tables, number their items, and split the rows. Nothing is prepared yet.

    ``source`` and ``test`` are rows given from Python, in the place of the recipe's tables.
    ``reads``: the tables' columns that become attributes of the rows, for evaluators; that which
    the split goes by is always one.

    Raises:
        DataError: a table, column or label that cannot be read.
    """
    tables = {"table": open_table(source if source is not None else data.table)}
    if data.more is not None:
        tables["more"] = open_table(data.more)
    held_out_table = test if test is not None else data.test
    if held_out_table is not None:
        tables["test"] = open_table(held_out_table)
    tables = _told_apart(tables)
    items = collect(tables, model, data)
    columns, by = model.numbering, data.split_by
    classes = classes_of(tables, data, items, columns)
    of_split = {by} - {"class", "item"}
    attributes = collect_attributes(tables, {*reads, *of_split}, of_more=of_split)
    examples = {
        key: with_attributes(
            examples_of(key, table, items, classes, columns, data), key, attributes
        )
        for key, table in tables.items()
    }

    base = examples["table"]
    notes = unused(tables["table"], model, data, reads) + labelled(tables["table"], data, base)
    if "test" in tables:
        base, dropped = without_leaks(base, examples["test"], columns, by)
        notes += dropped_rows(tables["table"], "test", dropped, by)
    asked = {"validation": data.split.validation, "test": data.split.test}
    if "test" in tables or not data.split.test:
        del asked["test"]
    unseen, base, beside = unseen_classes(base, columns, _share(data.split.unseen, base), seed)
    if by in ("class", "item"):
        shares = {part: _share(one, base) for part, one in asked.items()}
        parts, note = split(base, columns, shares, seed, by)
    else:
        held = {part: _held(part, one, base, attributes, by) for part, one in asked.items()}
        parts, note = split_by_column(base, columns, held, seed, by)
    parts["train"], left_out = trained_on(parts["train"], data.split.train, seed)
    parts |= unseen
    notes += [note, *beside, *left_out]
    if "test" in tables:
        parts["test"] = examples["test"]
    if "more" in tables:
        more = examples["more"]
        for part in [part for part in parts if part != "train"]:
            apart_by = "class" if part == UNSEEN else by
            more, dropped = without_leaks(more, parts[part], columns, apart_by)
            notes += dropped_rows(tables["more"], part, dropped, apart_by)
        parts["train"] = Examples.join([parts["train"], more], columns)
    if data.classes is not None:
        for part, rows in parts.items():
            require_classes(part, rows, by)
        classes.set_aside(items)
    return Parts(items, parts, _rows(tables), notes, [], classes.names, data.negatives or {})


def _told_apart(tables: Mapping[str, Table]) -> dict[str, Table]:
    """The tables, each with a name of its own: two lists given from Python have the same."""
    names = [table.name for table in tables.values()]
    return {
        key: replace(table, name=f"{table.name} ({key})") if names.count(table.name) > 1 else table
        for key, table in tables.items()
    }


def _share(asked: Held, examples: Examples) -> float:
    """A share of the rows, where a number may be asked for."""
    assert not isinstance(asked, list)  # names are of the values of a column
    return asked if asked < 1 else asked / max(len(examples), 1)


def _held(
    part: str, asked: Held, examples: Examples, attributes: Attributes, by: str
) -> float | np.ndarray:
    """A share of the values of a column, where a number may be asked for, or those named."""
    if isinstance(asked, list):
        return attributes.find(by, asked, f"data.split.{part}")
    return asked if asked < 1 else asked / max(len(np.unique(examples.attributes[by])), 1)


def test_part(data: Data, model: Model, source: Source, reads: Collection[str] = ()) -> Parts:
    """Another table as the part to measure on."""
    tables = {"test": open_table(source)}
    items = collect(tables, model, data)
    classes = classes_of(tables, data, items, model.numbering)
    examples = examples_of("test", tables["test"], items, classes, model.numbering, data)
    examples = with_attributes(examples, "test", collect_attributes(tables, reads))
    classes.set_aside(items)
    parts = {"test": examples}
    return Parts(items, parts, _rows(tables), [], [], classes.names, data.negatives or {})


def _rows(tables: Mapping[str, Table]) -> dict[str, int]:
    return {table.name: len(table) for table in tables.values()}


def collect(tables: Mapping[str, Table], model: Model, data: Data) -> dict[str, Items]:
    """By tower, the distinct items of its columns, and of those of the towers that follow it.

    Columns that are drawn have the items of the first one.
    """
    check_draws(data, model)
    read = data.read(model.columns)
    found = {
        name: Items.collect(
            tables,
            [c for c in read if model.numbering[c] == name],
            name,
            model.tower(name).encoder,
        )
        for name in model.leaders
    }
    return {name: found[model.leader(name)] for name in model.towers}


def classes_of(
    tables: Mapping[str, Table], data: Data, items: Mapping[str, Items], columns: Mapping[str, str]
) -> Classes:
    """The classes of all tables. With a label it says which items are members of theirs."""
    members = None
    if data.classes is not None and data.label is not None:
        label = data.label
        labelled = {key: table for key, table in tables.items() if key != "more"}
        members = {k: labels(table, label.column, label.same) for k, table in labelled.items()}
    return Classes.collect(tables, data.classes or {}, items, columns, members)


def examples_of(
    key: str,
    table: Table,
    items: Mapping[str, Items],
    classes: Classes,
    columns: Mapping[str, str],
    data: Data,
) -> Examples:
    """The rows of one table whose items can all be read, without what is drawn batch by batch."""
    there = {c: data.source(c, columns) for c in columns if data.draw.get(c, "itself") == "itself"}
    same, scored, classed = None, None, None
    if data.label is not None and data.classes is None and key != "more":
        same = labels(table, data.label.column, data.label.same)
    if data.score is not None:
        scored = scores(table, data.score.column)
        if data.score.same is not None:
            same = scored >= data.score.same
            if key == "table" and (same.all() or not same.any()):
                raise DataError(
                    f"{table.name}: data.score.same: found {data.score.same:g}, but "
                    f"'{data.score.column}' goes from {scored.min():g} to {scored.max():g}, so "
                    f"that {'all' if same.any() else 'no'} pairs are the same; give one in between"
                )
    if data.classes is not None:
        classed = {c: classes.numbers[key, source] for c, source in there.items()}
    numbers = {c: items[columns[c]].numbers[key, source] for c, source in there.items()}
    return Examples.build(numbers, columns, same, scored, classed, classes.claims.get(key))


def prepare(
    parts: Parts, model: Model, rejected_file: Path, allow: bool, progress: Progress | None = None
) -> None:
    """Prepare each item of the parts once, and leave out the rows of those that cannot be read.

    Raises:
        DataError: more than 5 % of a table's rows cannot be read, and that is not allowed; none of
            a part's can. They are listed in ``rejected_file`` all the same.
    """
    for name in model.leaders:
        items = parts.items[name]
        columns = [c for c, tower in model.numbering.items() if tower == name]
        used = [examples.distinct_items(columns) for examples in parts.examples.values()]
        numbers = np.unique(np.concatenate(used))
        items.prepare(model.tower(name).encoder, numbers, progress)
        parts.rejected += items.rejected
        reason = items.advance(model.tower(name), numbers, progress)
        if reason is not None:
            parts.notes.append(f"Tower {name}: its frozen layers run in every step: {reason}.")
    if parts.rejected:
        write_rejected(rejected_file, parts.rejected, parts.rows, None if allow else ALLOWED_SHARE)
    else:
        rejected_file.unlink(missing_ok=True)  # an earlier run's
    for part, examples in parts.examples.items():
        refused = [parts.items[model.columns[c]].refused[n] for c, n in examples.columns.items()]
        parts.examples[part] = examples.select(~np.any(refused, axis=0))
        if len(parts.examples[part]) == 0:
            raise DataError(f"{part}: none of its rows can be read; {rejected_file} says why")
