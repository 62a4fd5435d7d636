"""Mined triplets as a table: in memory, or written to a file that a recipe trains on."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from msiam.data.sources import Table
from msiam.errors import RecipeError
from msiam.paths import replacing
from msiam.towers.encoder import Encoder

SUFFIXES = (".parquet", ".csv", ".jsonl")
ROWS = 1000  # written at a time; see data.archives.AT_ONCE

Take = Callable[[np.ndarray], list[Any]]


@dataclass(frozen=True)
class Cells:
    """The cells of one column.

    Attributes:
        numbers: (n,) which item each row has.
        take: numbers of items to the items.
        feature: their type, as ``datasets`` has it.
        files: whether an item that is a text is a file's name, the full one.
        relative: whether file names were relative in the table that was mined.
    """

    numbers: np.ndarray
    take: Take
    feature: Any
    files: bool
    relative: bool

    @classmethod
    def build(
        cls,
        numbers: np.ndarray,
        take: Take,
        encoder: Encoder,
        table: Table,
        column: str,
    ) -> Cells:
        """Cells that are written as those of the table's column were."""
        feature = table.dataset.features[column]
        relative = False
        if encoder.reads_files:
            distinct = np.unique(numbers)
            parts = (distinct[start : start + ROWS] for start in range(0, len(distinct), ROWS))
            if all(isinstance(item, str) for part in parts for item in take(part)):
                feature = datasets.Value("string")
            head = table.dataset.select_columns([column])[:ROWS][column]
            relative = any(isinstance(v, str) and not Path(v).is_absolute() for v in head)
        return cls(numbers, take, feature, encoder.reads_files, relative)

    def cells(self, rows: slice, folder: Path | None) -> list[Any]:
        """What is written for some rows, into a file in ``folder``; None: into memory."""
        items = self.take(self.numbers[rows])
        if not self.files:
            return items
        names = isinstance(self.feature, datasets.Value)
        cells = []
        for item in items:
            if isinstance(item, str):
                if self.relative and folder is not None:
                    item = os.path.relpath(item, folder)
                item = item if names else {"bytes": None, "path": item}
            cells.append(item)
        return cells

    def check(self, name: str, path: Path) -> None:
        """Raise unless a file of that suffix can hold the column.

        Raises:
            RecipeError: it cannot: bytes in a .jsonl, anything but texts and numbers in a .csv.
        """
        plain = isinstance(self.feature, datasets.Value)
        if path.suffix == ".parquet" or plain or (path.suffix == ".jsonl" and not self.files):
            return
        raise RecipeError(
            f"{path}: column '{name}' holds {'bytes' if self.files else self.feature}, which only "
            f"a .parquet file takes; found '{path.suffix}'"
        )


@dataclass(frozen=True)
class Mined:
    """Triplets: the columns of anchor, positive and negative, and what mining came to.

    Attributes:
        columns: name -> its cells, in order.
        summary: counts and means by name, ready for JSON.
    """

    columns: dict[str, Cells]
    summary: dict[str, Any]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())).numbers)

    def dataset(self) -> datasets.Dataset:
        """All rows in memory. Files have their full names."""
        return datasets.Dataset(pa.Table.from_batches([*self._batches(None)], self._schema))

    def write(self, path: Path) -> None:
        """Write a .parquet, .csv or .jsonl file, whole or not at all, some rows at a time.

        A file's name that was relative to its table is relative to the new file.

        Raises:
            RecipeError: a suffix that is none of these, or that cannot hold a column.
            RunError: it cannot be written; it is then as it was.
        """
        check_suffix(path)
        for name, cells in self.columns.items():
            cells.check(name, path)
        with replacing(path) as draft, draft.open("wb") as file:
            batches = self._batches(path.resolve().parent)
            _WRITERS[path.suffix](file, self._schema, batches)

    @property
    def _schema(self) -> pa.Schema:
        return datasets.Features({n: c.feature for n, c in self.columns.items()}).arrow_schema

    def _batches(self, folder: Path | None) -> Iterator[pa.RecordBatch]:
        schema = self._schema
        for start in range(0, len(self), ROWS):
            rows = slice(start, start + ROWS)
            arrays = [
                pa.array(cells.cells(rows, folder), field.type)
                for cells, field in zip(self.columns.values(), schema, strict=True)
            ]
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def check_suffix(path: Path) -> None:
    """Raise, before long work begins, unless a file of that name can be written.

    Raises:
        RecipeError: it cannot.
    """
    if path.suffix not in SUFFIXES:
        raise RecipeError(
            f"{path}: triplets are written as {', '.join(SUFFIXES)}; found '{path.suffix}'"
        )


def _write_parquet(file: IO[bytes], schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> None:
    with pq.ParquetWriter(file, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)


def _write_csv(file: IO[bytes], schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> None:
    with pyarrow.csv.CSVWriter(file, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)


def _write_jsonl(file: IO[bytes], schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> None:
    for batch in batches:
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in batch.to_pylist())
        file.write("".join(lines).encode())


_WRITERS: dict[str, Callable[[IO[bytes], pa.Schema, Iterator[pa.RecordBatch]], None]] = {
    ".parquet": _write_parquet,
    ".csv": _write_csv,
    ".jsonl": _write_jsonl,
}


def names_of(anchor: str, positive: str, columns: Sequence[str], k: int, wide: bool) -> list[str]:
    """The names of the columns that are written: the recipe's own for anchor and positive.

    The negative's is that of the recipe's third column, where it has one; ``negative`` else, and
    ``negative_1`` … ``negative_k`` where a row has k. Of one column with classes the positive is
    called ``positive``.
    """
    if anchor == positive:
        positive = "positive"
    third = columns[2] if len(columns) == 3 and columns[2] not in (anchor, positive) else "negative"
    names = [anchor, positive, *([f"{third}_{n}" for n in range(1, k + 1)] if wide else [third])]
    if len(set(names)) < len(names):
        raise RecipeError(
            f"mine: the columns written would be {', '.join(names)}; rename the table's and the "
            "recipe's column, so that no two are called alike"
        )
    return names
