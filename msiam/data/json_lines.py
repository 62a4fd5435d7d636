"""JSON lines of any length, some rows at a time."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from msiam.data.files import read_json

ROWS = 1024  # at a time


def is_lines(path: Path) -> bool:
    """Whether a file holds an object a line, and is no list."""
    with path.open(encoding="utf-8-sig") as file:
        return next((line.lstrip()[0] != "[" for line in file if line.strip()), False)


def scan_lines(path: Path) -> tuple[pa.Schema, int]:
    """The columns of a file, each with its type, and the number of rows; in one pass.

    Raises:
        DataError: as ``read_json``.
    """
    schema, count = pa.schema([]), 0
    try:
        for rows in _chunks(path):
            count += len(rows)
            names = dict.fromkeys(name for row in rows for name in row)
            found = pa.schema([(n, pa.array([row.get(n) for row in rows]).type) for n in names])
            schema = pa.unify_schemas([schema, found], promote_options="permissive")
    except (pa.ArrowException, TypeError, ValueError):
        read_json(path)  # names the line, the row or the column
        raise
    return schema, count


def read_lines(
    path: Path, schema: pa.Schema, columns: list[str], start: int
) -> Iterator[pa.RecordBatch]:
    """Columns of a file from a row on, typed as ``scan_lines`` found them."""
    wanted = pa.schema([schema.field(name) for name in columns])
    for rows in _chunks(path, start):
        yield pa.RecordBatch.from_pylist(rows, schema=wanted)


def _chunks(path: Path, start: int = 0) -> Iterator[list[dict[str, Any]]]:
    with path.open(encoding="utf-8-sig") as file:
        lines = itertools.islice((line for line in file if line.strip()), start, None)
        while chunk := list(itertools.islice(lines, ROWS)):
            rows = [json.loads(line) for line in chunk]
            if not all(isinstance(row, dict) for row in rows):
                raise TypeError("a line that is no object")
            yield rows
