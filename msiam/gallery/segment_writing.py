"""Writes a segment: records and vectors come in chunks, and go to disk as they come."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from secrets import token_hex
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from msiam.gallery.backend import Backend
from msiam.gallery.catalogue import CatalogueWriter
from msiam.gallery.manifest import SegmentFiles
from msiam.gallery.stored import Stored
from msiam.gallery.vector_file import VectorFile, VectorWriter
from msiam.registry.registry import registry

#: Records, as ``record_batch`` makes them, and their vectors, (n, dim).
Rows: TypeAlias = tuple[pa.RecordBatch, np.ndarray]


def write_segment(
    folder: Path, backend: str, options: Callable[[int], Any], rows: Iterable[Rows]
) -> tuple[SegmentFiles | None, int]:
    """Write the files of one more segment, which no manifest names yet.

    The vectors are first written as they come, so that an index that must see them twice can,
    and are kept only where the index does not give them back.

    Args:
        options: the backend's, by the number of records.

    Returns:
        Its files, None if there are no rows; and the width of the vectors.
    """
    kind: type[Backend] = registry().find("backend", backend).load()
    generation = token_hex(4)
    catalogue = folder / f"catalogue-{generation}.arrow"
    raw = folder / f"vectors-{generation}.npy"
    place = folder / f"index-{generation}.{backend}"
    with (
        catalogue.open("wb") as file,
        CatalogueWriter(file) as records,
        VectorWriter(raw) as written,
    ):
        for batch, vectors in rows:
            records.write(batch)
            written.write(vectors)
    if not written.count:
        catalogue.unlink()
        raw.unlink()
        return None, 0
    chosen = options(written.count)
    index = kind.build(VectorFile(raw), written.dim, chosen)
    index.save(place)
    if index.reconstructs:
        raw.unlink()
    return SegmentFiles(
        count=written.count,
        alive=written.count,
        options=chosen.model_dump(mode="json"),
        catalogue=Stored.of(catalogue),
        index=Stored.of(place),
        vectors=None if index.reconstructs else Stored.of(raw),
    ), written.dim


def write_dead(folder: Path, dead: np.ndarray) -> Stored:
    """Write the places of a segment's removed records."""
    path = folder / f"dead-{token_hex(4)}.npy"
    with path.open("wb") as file:
        np.save(file, dead)
    return Stored.of(path)
