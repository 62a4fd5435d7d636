"""A gallery's catalogue: an Arrow file with each record's id and its other columns.

Pictures are referred to, by path, and never stored.
"""

from __future__ import annotations

from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from pathlib import Path

    from msiam.data.streams import Stream


def record_columns(table: Stream, id_column: str | None) -> list[str]:
    """The columns that records keep: not the id, no bytes, no pictures that have no path."""
    keep = []
    for field in table.schema:
        kept = _without_bytes(pa.array([], field.type))
        if field.name == id_column or kept is None:
            continue
        if not _is_picture(field.type) or _some_path(table, field.name):
            keep.append(field.name)
    return keep


def _some_path(table: Stream, column: str) -> bool:
    """Whether any picture of a column has a path. Mostly, one of the first has."""
    for _, window in table.windows([column], 64):
        paths = pc.struct_field(window.column(0), "path")
        if paths.null_count < len(paths):
            return True
    return False


class CatalogueWriter:
    """Writes a catalogue, chunk by chunk: ``id: string, record: struct`` of the kept columns.

    The columns stand in a struct, so that one of them may be called ``id``.
    """

    def __init__(self, file: IO[bytes], columns: list[str]) -> None:
        self._file = file
        self.columns = columns
        self._writer: pa.ipc.RecordBatchFileWriter | None = None

    def write(self, ids: list[str], rows: pa.Table) -> None:
        """Append records: n ids, and the table's n rows."""
        arrays = [_without_bytes(_whole(rows.column(name))) for name in self.columns]
        fields = [
            pa.field(n, a.type) for n, a in zip(self.columns, arrays, strict=True) if a is not None
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
