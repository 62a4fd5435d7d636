"""File names in the records of a table that lies in another folder than the gallery's first one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from msiam.gallery.catalogue import is_picture

if TYPE_CHECKING:
    from msiam.data.streams import Stream


def file_columns(table: Stream) -> list[str]:
    """The columns whose values name files below the table's folder.

    Pictures do. Of a column of texts the first value tells.
    """
    if table.root is None:
        return []
    found = [field.name for field in table.schema if is_picture(field.type)]
    texts = [field.name for field in table.schema if pa.types.is_string(field.type)]
    for _, window in table.windows(texts, 1) if texts else ():
        first = window.to_pylist()[0]
        return found + [name for name in texts if _is_file(table.root, first[name])]
    return found


def rebased(
    batch: pa.RecordBatch, columns: list[str], root: Path | None, onto: Path | None
) -> pa.RecordBatch:
    """The same records, file names in some columns as seen from the folder ``onto``.

    Args:
        root: the folder from which they are seen now. None: where msiam runs.
    """
    records = batch.column("record")
    start, end = (place or Path.cwd() for place in (root, onto))
    if not columns or start.resolve() == end.resolve():
        return batch
    prefix = os.path.relpath(start.resolve(), end.resolve()) if onto else str(start.resolve())
    arrays = [
        _below(prefix, records.field(field.name))
        if field.name in columns
        else records.field(field.name)
        for field in records.type
    ]
    moved = pa.StructArray.from_arrays(arrays, fields=list(records.type))
    return pa.record_batch([batch.column("id"), moved], names=["id", "record"])


def _below(prefix: str, names: pa.Array) -> pa.Array:
    joined = pc.binary_join_element_wise(pa.scalar(prefix, names.type), names, "/")
    return pc.if_else(pc.starts_with(names, "/"), names, joined)


def _is_file(root: Path, name: str | None) -> bool:
    try:
        return bool(name) and not Path(str(name)).is_absolute() and (root / str(name)).is_file()
    except (OSError, ValueError):  # a text that is no file name
        return False
