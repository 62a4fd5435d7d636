"""A gallery's catalogue: an Arrow file with each record's id and its other columns.

Pictures are referred to, by path, and never stored.
"""

from __future__ import annotations

from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from msiam.errors import GalleryError

if TYPE_CHECKING:
    from pathlib import Path

    from msiam.data.sources import Table


def record_ids(table: Table, column: str | None) -> list[str]:
    """Each row's id; without a column, its number.

    Raises:
        DataError: the table has no such column.
        GalleryError: an id is missing, there twice, or neither a text nor a whole number.
    """
    if column is None:
        return [str(row) for row in range(len(table))]
    ids: list[str] = []
    rows: dict[str, int] = {}
    for row, value in enumerate(table.values(column)):
        if value is None or value == "":
            raise GalleryError(
                f"{table.name}: row {row} has no '{column}'; each record needs an id"
            )
        if not isinstance(value, str | int) or isinstance(value, bool):
            raise GalleryError(
                f"{table.name}: row {row}: '{column}' is {value!r:.60}; an id must be a text or a "
                "whole number"
            )
        first = rows.setdefault(str(value), row)
        if first != row:
            raise GalleryError(
                f"{table.name}: rows {first} and {row} have the same '{column}', '{value}'; "
                "an id must be unique"
            )
        ids.append(str(value))
    return ids


def record_columns(table: Table, id_column: str | None) -> list[str]:
    """The columns that records keep: not the id, no bytes, no pictures that have no path."""
    keep = []
    for name in table.dataset.column_names:
        column = table.dataset.data.column(name)
        kept = [_without_bytes(chunk) for chunk in column.chunks]
        nowhere = _is_picture(column.type) and all(
            c is None or c.null_count == len(c) for c in kept
        )
        if name != id_column and not nowhere and all(chunk is not None for chunk in kept):
            keep.append(name)
    return keep


class CatalogueWriter:
    """Writes a catalogue, chunk by chunk: ``id: string, record: struct`` of the kept columns.

    The columns stand in a struct, so that one of them may be called ``id``.
    """

    def __init__(self, file: IO[bytes], columns: list[str]) -> None:
        self._file = file
        self._columns = columns
        self._writer: pa.ipc.RecordBatchFileWriter | None = None

    def write(self, ids: list[str], rows: pa.Table) -> None:
        """Append records: n ids, and the table's n rows."""
        arrays = [_without_bytes(_whole(rows.column(name))) for name in self._columns]
        fields = [
            pa.field(n, a.type) for n, a in zip(self._columns, arrays, strict=True) if a is not None
        ]
        records = (
            pa.StructArray.from_arrays(arrays, fields=fields)
            if fields
            else pa.array([{}] * len(ids), pa.struct([]))
        )
        batch = pa.record_batch([pa.array(ids, pa.string()), records], names=["id", "record"])
        if self._writer is None:
            self._writer = pa.ipc.new_file(self._file, batch.schema)
        self._writer.write_batch(batch)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._writer is not None:
            self._writer.close()


class Catalogue:
    """A catalogue on disk, memory-mapped: a search reads the records that it found, and no more."""

    def __init__(self, path: Path) -> None:
        self._batches = pa.ipc.open_file(pa.memory_map(str(path))).read_all().to_batches()
        self._ends = np.cumsum([len(batch) for batch in self._batches])

    def take(self, positions: np.ndarray) -> list[tuple[str, dict[str, Any]]]:
        """The ids and records at n positions.

        They are taken batch by batch: taken from the table as one, Arrow would first join all its
        batches, which for a million records costs more than the search.
        """
        distinct, places = np.unique(positions, return_inverse=True)
        batches = np.searchsorted(self._ends, distinct, side="right")
        found: list[tuple[str, dict[str, Any]]] = []
        for number in np.unique(batches):
            batch = self._batches[number]
            start = self._ends[number] - len(batch)
            rows = batch.take(_integers(distinct[batches == number] - start))
            found += zip(*(column.to_pylist() for column in rows.columns), strict=True)
        return [(id, dict(record)) for id, record in map(found.__getitem__, places)]


def _integers(values: np.ndarray) -> pa.Array:
    """An int64 array of Arrow's. ``pa.array`` would import pandas first, for half a second."""
    return pa.Array.from_buffers(pa.int64(), len(values), [None, pa.py_buffer(values)])


def _whole(column: pa.ChunkedArray) -> pa.Array:
    joined = column.combine_chunks()
    return joined if isinstance(joined, pa.Array) else pa.concat_arrays(joined.chunks)


def _is_picture(kind: pa.DataType) -> bool:
    """A picture (or a sound) as ``datasets`` stores it: a struct of its bytes and its path."""
    return pa.types.is_struct(kind) and {field.name for field in kind} == {"bytes", "path"}


def _without_bytes(array: pa.Array) -> pa.Array | None:
    """The column as records keep it: a picture's path, None for other bytes."""
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if _is_picture(array.type):
        array = pc.struct_field(array, "path")
    return None if _holds_bytes(array.type) else array


def _holds_bytes(kind: pa.DataType) -> bool:
    if kind in (pa.binary(), pa.large_binary(), pa.binary_view()):
        return True
    if pa.types.is_fixed_size_binary(kind):
        return True
    return any(_holds_bytes(kind.field(number).type) for number in range(kind.num_fields))
