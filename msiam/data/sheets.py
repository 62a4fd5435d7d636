"""CSV and TSV of any length, a block of the file at a time."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from msiam.data.files import NUMBER, read_csv

BLOCK = 1 << 24  # bytes; a row must fit into one


@dataclass
class _Kind:
    """What a column may still be, by the cells that were seen."""

    empty: bool = True
    matches: dict[pa.DataType, bool] = field(default_factory=lambda: dict.fromkeys(NUMBER, True))
    fits: dict[pa.DataType, bool] = field(default_factory=lambda: dict.fromkeys(NUMBER, True))

    def see(self, column: pa.Array) -> None:
        cells = _nulled(column)
        self.empty = self.empty and cells.null_count == len(cells)
        for kind, pattern in NUMBER.items():
            if self.matches[kind]:
                found = pc.all(pc.match_substring_regex(cells, pattern)).as_py()
                self.matches[kind] = found is not False  # None: they are all empty
            if self.matches[kind] and self.fits[kind]:
                try:
                    cells.cast(kind)
                except pa.ArrowInvalid:  # more digits than 64 bits hold
                    self.fits[kind] = False

    @property
    def type(self) -> pa.DataType:
        """As ``read_csv`` types the whole column."""
        if not self.empty:
            for kind in NUMBER:
                if self.matches[kind]:
                    return kind if self.fits[kind] else pa.string()
        return pa.string()


def scan_sheet(path: Path) -> tuple[pa.Schema, int]:
    """The columns of a file, each with its type, and the number of rows; in one pass.

    Raises:
        DataError: as ``read_csv``.
    """
    kinds: dict[str, _Kind] = {name: _Kind() for name in _header(path)}
    count = 0
    for batch in _blocks(path, list(kinds)):
        count += len(batch)
        for name, kind in kinds.items():
            kind.see(batch.column(name))
    return pa.schema([(name, kind.type) for name, kind in kinds.items()]), count


def read_sheet(
    path: Path, schema: pa.Schema, columns: list[str], start: int
) -> Iterator[pa.RecordBatch]:
    """Columns of a file from a row on, typed as ``scan_sheet`` found them."""
    for batch in _blocks(path, columns):
        if start >= len(batch):
            start -= len(batch)
            continue
        batch, start = batch.slice(start), 0
        typed = [
            cells if (kind := schema.field(name).type) == pa.string() else _nulled(cells).cast(kind)
            for name, cells in zip(columns, batch.columns, strict=True)
        ]
        yield pa.record_batch(typed, names=columns)


def _header(path: Path) -> list[str]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        names = next(csv.reader(file, delimiter=_delimiter(path)), [])
    if not names or len(set(names)) < len(names):
        return list(read_csv(path).column_names)  # which says what is wrong, if anything is
    return names


def _blocks(path: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
    if not columns:
        return
    try:
        yield from pyarrow.csv.open_csv(
            path,
            pyarrow.csv.ReadOptions(block_size=BLOCK, use_threads=False),
            pyarrow.csv.ParseOptions(delimiter=_delimiter(path), newlines_in_values=True),
            pyarrow.csv.ConvertOptions(
                include_columns=columns, column_types=dict.fromkeys(columns, pa.string())
            ),
        )
    except pa.ArrowInvalid:
        read_csv(path)  # names the line; it takes a longer row than a block holds
        raise


def _nulled(column: pa.Array) -> pa.Array:
    return pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)


def _delimiter(path: Path) -> str:
    return "\t" if path.suffix.lower() == ".tsv" else ","
