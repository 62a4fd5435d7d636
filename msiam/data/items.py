"""Items: the distinct raw things that a tower reads, numbered, each prepared once."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from msiam.data.contents import Contents
from msiam.data.sources import Table
from msiam.errors import DataError
from msiam.paths import replacing
from msiam.towers.embedding import located
from msiam.towers.encoder import Encoder, Rejected
from msiam.towers.feature_cache import prepare_kept
from msiam.towers.kept_layers import KeptLayers
from msiam.towers.tower import Tower

CHUNK = 1024  # items handed to an encoder at a time
LOOK = 100  # values of a column that are looked at to see whether its tower can read it
ALLOWED_SHARE = 0.05  # of rejected rows; with more, something else is wrong


class RejectedRow(NamedTuple):
    """A row that is set aside, since one of its items cannot be read. Rows count from 0."""

    table: str
    row: int
    column: str
    reason: str


@dataclass
class Items:
    """The distinct items of one tower, over all of its columns and tables.

    Attributes:
        values: raw item by number: a text, a ``{"bytes", "path"}`` dict, the path of a file …
        features: what the encoder prepared of it, by number; empty until :meth:`prepare`.
        states: what frozen first layers made of that, by number; empty where they run each time.
        numbers: (table's key, column) -> item number of each row, int64 (n,); −1 where rejected.
        refused: whether the encoder cannot read the item, by number, bool; its feature is empty.
        rejected: the rows set aside so far.
        names: table's key -> its name, for messages.
    """

    values: list[Any] = field(default_factory=list)
    features: list[np.ndarray] = field(default_factory=list)
    states: list[np.ndarray] = field(default_factory=list)
    numbers: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)
    refused: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    rejected: list[RejectedRow] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)

    @classmethod
    def collect(
        cls, tables: Mapping[str, Table], columns: Sequence[str], tower: str, encoder: Encoder
    ) -> Items:
        """Number the distinct items of ``columns`` in all ``tables``, in order of appearance.

        Two items are one if they are the same text or the same bytes, under whatever file names.
        Rows with a null or empty item, or one of a wrong type, are rejected. The encoder need not
        be fitted: nothing is prepared yet.

        Raises:
            DataError: a column is missing, or the tower cannot read what it holds.
        """
        items = cls(names={key: table.name for key, table in tables.items()})
        contents = Contents()
        for key, table in tables.items():
            for column in columns:
                table.require(column)
                _check_readable(table, column, tower, encoder)
                items.numbers[key, column] = items._number(table, column, encoder, contents)
        items.refused = np.zeros(len(items), bool)
        return items

    def __len__(self) -> int:
        return len(self.values)

    def _number(
        self, table: Table, column: str, encoder: Encoder, contents: Contents
    ) -> np.ndarray:
        numbers = np.full(len(table), -1, np.int64)
        row = 0
        for batch in table.dataset.select_columns([column]).iter(CHUNK):
            for value in batch[column]:
                item = located(value, table.root, encoder)
                reason = _fault(item, encoder)
                if reason:
                    self.rejected.append(RejectedRow(table.name, row, column, reason))
                else:
                    numbers[row] = contents.number(item, encoder)
                    if len(contents) > len(self.values):
                        self.values.append(item)
                row += 1
        return numbers

    @property
    def inputs(self) -> list[np.ndarray]:
        """What the tower takes, by number: states, or features."""
        return self.states or self.features

    def prepare(
        self,
        encoder: Encoder,
        used: np.ndarray | None = None,
        progress: Callable[[int], object] | None = None,
    ) -> None:
        """Prepare each item once, by a fitted encoder; reject the rows of those it refuses.

        Args:
            used: the numbers of the items to prepare; None: all.
            progress: told after each chunk how many items it had.
        """
        numbers = np.arange(len(self)) if used is None else used
        self.features, self.states = [np.empty(0, np.uint8)] * len(self), []
        reasons: dict[int, str] = {}
        features = prepare_kept(encoder, [self.values[n] for n in numbers.tolist()], progress)
        for number, feature in zip(numbers.tolist(), features, strict=True):
            if isinstance(feature, Rejected):
                reasons[number] = feature.reason
            else:
                self.features[number] = feature
        self.reject(reasons)

    def advance(
        self, tower: Tower, used: np.ndarray, progress: Callable[[int], object] | None = None
    ) -> str | None:
        """Run a tower's frozen first layers over what was prepared, once an item.

        Returns:
            Why not, where there are such layers and they have to run in each step.
        """
        if not tower.frozen:
            return None
        numbers = used[~self.refused[used]].tolist()
        values, features = [self.values[n] for n in numbers], [self.features[n] for n in numbers]
        layers = KeptLayers(tower, values)
        made = layers.states(values, features, progress)
        if layers.reason is None:
            self.states = list(self.features)
            for number, states in zip(numbers, made, strict=True):
                self.states[number] = states
        return layers.reason

    def reject(self, reasons: Mapping[int, str]) -> None:
        """Set the rows of some items aside: their numbers, and why they cannot be read."""
        self.refused[list(reasons)] = True
        for (key, column), numbers in self.numbers.items():
            for row in np.flatnonzero(np.isin(numbers, list(reasons))).tolist():
                reason = reasons[int(numbers[row])]
                self.rejected.append(RejectedRow(self.names[key], row, column, reason))
                numbers[row] = -1


def _fault(item: Any, encoder: Encoder) -> str | None:
    """Why a value is no item of this encoder's; None if it is one."""
    if item is None:
        return "null"
    if isinstance(item, str | bytes) and not item.strip():
        return "empty"
    if not encoder.accepts(item):
        return f"{_describe(item)}, which is no {encoder.modality}"
    return None


def _check_readable(table: Table, column: str, tower: str, encoder: Encoder) -> None:
    head = table.dataset.select_columns([column])[:LOOK][column]
    first = [value for value in head if value is not None]
    if first and not any(encoder.accepts(located(v, table.root, encoder)) for v in first):
        raise DataError(
            f"{table.name}: column '{column}' holds {_describe(first[0])}, which tower '{tower}' "
            f"cannot read: its encoder {type(encoder).__name__} reads {encoder.modality}; bind the "
            "column to a tower that reads it"
        )


def _describe(value: Any) -> str:
    if isinstance(value, dict):
        return f"a dict with {', '.join(map(repr, value))}"
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 40 else text[:37] + '…'}"


def write_rejected(
    path: Path,
    rejected: Sequence[RejectedRow],
    totals: Mapping[str, int],
    allowed: float | None = ALLOWED_SHARE,
) -> None:
    """List rejected rows in a CSV file (table, row, column, reason); raise if they are too many.

    Args:
        totals: table's name -> its rows, the rejected ones among them.
        allowed: the largest share of a table's rows; None: any (``--allow-rejected``).

    Raises:
        DataError: more rows are rejected than allowed. The list is written all the same.
    """
    with replacing(path) as draft, draft.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(RejectedRow._fields)
        writer.writerows(rejected)
    counts = Counter(table for table, _ in {(entry.table, entry.row) for entry in rejected})
    for table, count in counts.items():
        if allowed is not None and count > allowed * totals[table]:
            common = Counter((e.column, e.reason) for e in rejected if e.table == table)
            ((column, reason), times) = common.most_common(1)[0]
            raise DataError(
                f"{table}: {count} of {totals[table]} rows cannot be read, more than "
                f"{allowed:.0%}; the commonest reason, {times} times: column '{column}': {reason}; "
                f"{path} lists them; mend them, or go on without them by --allow-rejected"
            )
