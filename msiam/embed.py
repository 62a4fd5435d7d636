"""Embed one column of a table, however long, into a file."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from rich.console import Console

from msiam.data.sources import Source
from msiam.data.streams import Stream, open_stream
from msiam.embed_parts import Parts
from msiam.errors import RecipeError
from msiam.gallery.building import MOST_KEPT
from msiam.gallery.ids import check_ids, record_ids
from msiam.progress import items_bar
from msiam.run.run import QUIET
from msiam.towers.inference import KEPT, How, use_bf16
from msiam.towers.model import Model

#: Rows embedded together, sorted by length, and written together.
ROWS = 2048
#: Rows that are left out, of which the reasons are remembered.
REASONS = 1000


@dataclass(frozen=True)
class Written:
    """What ``embed_table`` wrote.

    Attributes:
        count: rows that were embedded.
        left_out: rows that could not be read.
        rejected: number and reason of the first of those; none where the file was whole before.
    """

    count: int
    left_out: int
    rejected: list[tuple[int, str]] = field(default_factory=list)


def embed_table(
    model: Model,
    table: Source | Stream,
    out: Path,
    column: str,
    id: str | None = None,
    *,
    how: How = KEPT,
    resume: bool = False,
    overwrite: bool = False,
    console: Console = QUIET,
) -> Written:
    """Write a Parquet file of id and embedding, in the order of the table.

    A window of rows is in memory at a time. Each that is done is kept beside ``out``, so that one
    that was stopped can go on; ``out`` itself is replaced in one step when all are.

    Args:
        column: the model's and the table's column to embed.
        id: the table's column with the ids; None: the rows' numbers.
        resume: go on where one that was stopped had got to; begin where none was. The file is byte
            for byte that of one that was never stopped.
        overwrite: begin again, though one was stopped.
        console: where progress is shown; silent by default.

    Raises:
        RecipeError: ``out`` is no .parquet file.
        DataError: the table cannot be read, or lacks a column.
        GalleryError: ids that are missing or not unique.
        RunError: ``out`` cannot be written, or the disk is full: it is then as it was. One was
            stopped, and neither ``resume`` nor ``overwrite`` is given; it was begun with another
            model, table or option; another process writes it.
    """
    if out.suffix != ".parquet":
        raise RecipeError(f"{out}: embeddings are written as .parquet; found '{out.suffix}'")
    stream = open_stream(table)
    stream.require(column)
    how = dataclasses.replace(how, keep=how.keep and len(stream) <= MOST_KEPT)
    weights = model.tower_of(column).parameters()
    half = use_bf16(how.precision, next((w.device for w in weights), torch.device("cpu")))
    state = {
        "model": model.fingerprint(),
        "table": stream.digest(),
        "column": column,
        "id": id,
        "precision": "bf16" if half else "fp32",
        "rows": ROWS,
    }
    schema = pa.schema([("id", pa.string()), ("embedding", pa.list_(pa.float32(), model.dim))])
    parts = Parts(out)
    with parts.writing():
        if parts.begin(state, resume, overwrite):
            return Written(*parts.found())
        done = min(len(parts.names()) * ROWS, len(stream))
        if not done:
            check_ids(stream, id, out.parent)
        with items_bar(console, "embedding", len(stream), done) as progress:
            for start, window in stream.windows([column, id or column], ROWS, done):
                items = window.column(column).to_pylist()
                vectors, refused = model.embed(column, items, stream.root, progress, how)
                progress(len(refused))
                ids = record_ids(stream, id, window.column(id or column).to_pylist(), start)
                kept = np.delete(np.arange(len(ids)), [number for number, _ in refused])
                rows = pa.table([[ids[row] for row in kept], _fixed(vectors)], schema=schema)
                parts.write(start, rows, [(start + number, why) for number, why in refused])
        return Written(*parts.finish(schema, REASONS))


def _fixed(vectors: np.ndarray) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
