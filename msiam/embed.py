"""Embed one column of a table into a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from msiam.data.sources import Source, open_table
from msiam.errors import RecipeError
from msiam.gallery.catalogue import record_ids
from msiam.paths import replacing
from msiam.towers.embedding import Progress, chunks
from msiam.towers.inference import KEPT, How
from msiam.towers.model import Model


@dataclass(frozen=True)
class Written:
    """What ``embed_table`` wrote, and the number and reason of each row that it left out."""

    count: int
    rejected: list[tuple[int, str]]


def embed_table(
    model: Model,
    table: Source,
    out: Path,
    column: str,
    id: str | None = None,
    progress: Progress | None = None,
    how: How = KEPT,
) -> Written:
    """Write a Parquet file of id and embedding, a chunk of rows at a time.

    Args:
        column: the model's and the table's column to embed.
        id: the table's column with the ids; None: the rows' numbers.

    Raises:
        RecipeError: ``out`` is no .parquet file.
        DataError: the table cannot be read, or lacks a column.
        GalleryError: ids that are missing or not unique.
        RunError: ``out`` cannot be written, or the disk is full; it is then as it was.
    """
    if out.suffix != ".parquet":
        raise RecipeError(f"{out}: embeddings are written as .parquet; found '{out.suffix}'")
    opened = open_table(table)
    opened.require(column)
    ids = record_ids(opened, id)
    schema = pa.schema([("id", pa.string()), ("embedding", pa.list_(pa.float32(), model.dim))])
    rejected: list[tuple[int, str]] = []
    with replacing(out) as draft, pq.ParquetWriter(draft, schema) as writer:
        for start, rows in chunks(range(len(opened))):
            items = opened.dataset[start : start + len(rows)][column]
            vectors, refused = model.embed(column, items, opened.root, progress, how)
            rejected += [(start + number, reason) for number, reason in refused]
            kept = np.delete(np.arange(start, start + len(rows)), [number for number, _ in refused])
            writer.write(pa.table([[ids[row] for row in kept], _fixed(vectors)], schema=schema))
    return Written(len(ids) - len(rejected), rejected)


def _fixed(vectors: np.ndarray) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
