"""File names in the records of a table that lies in another folder than the gallery's first one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from msiam.gallery.catalogue import is_picture

FIRST = 64  # rows that are looked at together

if TYPE_CHECKING:
    from msiam.data.streams import Stream


def file_columns(table: Stream) -> list[str]:
    """The columns whose values name files below the table's folder.

    Pictures do. Of a column of texts the first that are there tell: most of them must.
    """
    if table.root is None:
        return []
    found = [field.name for field in table.schema if is_picture(field.type)]
    texts = [field.name for field in table.schema if _is_text(field.type)]
    for _, window in table.windows(texts, FIRST) if texts else ():
        for name in texts:
            there = [cell for cell in window.column(name).to_pylist() if cell]
            if there:
                texts = [other for other in texts if other != name]
                if 2 * sum(_is_file(table.root, cell) for cell in there) > len(there):
                    found.append(name)
        if not texts:
            break
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
    before, between = (pa.scalar(text, names.type) for text in (prefix, "/"))
    joined = pc.binary_join_element_wise(before, names, between)
    return pc.if_else(pc.starts_with(names, "/"), names, joined)


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _is_file(root: Path, name: str) -> bool:
    try:
        return not Path(name).is_absolute() and (root / name).is_file()
    except (OSError, ValueError):  # a text that is no file name
        return False
