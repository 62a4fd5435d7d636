"""Writes a gallery anew as one segment, over the records and vectors that it has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from msiam.gallery.backend import Backend
from msiam.gallery.catalogue import conformed, integers
from msiam.gallery.manifest import Manifest
from msiam.gallery.segment import Segment
from msiam.gallery.segment_writing import Rows, write_segment
from msiam.gallery.segments import Segments
from msiam.gallery.writing import commit, writing
from msiam.registry.options import parse_options
from msiam.registry.registry import registry


def compact_gallery(
    folder: Path, options: Mapping[str, Any] | None = None, wait: bool = False
) -> None:
    """Write all records of a gallery anew, without those that were removed.

    Readers see the old gallery or the new one, whole.

    Args:
        options: the backend's; None: those that the gallery has.
        wait: for another process that is writing it.

    Raises:
        GalleryError: another process is writing it; the backend refuses the options.
        RecipeError: the backend has no such option.
        RunError: the disk is full. The gallery is then as it was before.
    """
    Manifest.read(folder)
    with writing(folder, wait):
        manifest = Manifest.read(folder)
        kind: type[Backend] = registry().find("backend", manifest.backend, str(folder)).load()
        given = manifest.options if options is None else options
        parsed = parse_options(kind, given, f"{folder}: backend {manifest.backend}")
        segments = Segments.open(folder, manifest)
        rows = (
            row for part in segments.parts for row in rows_of(part, segments.type, _NO_POSITIONS)
        )
        files, _ = write_segment(folder, manifest.backend, lambda count: parsed, rows)
        changed = {
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "options": parsed.model_dump(mode="json"),
            "segments": [] if files is None else [files],
        }
        commit(folder, manifest.model_copy(update=changed))


_NO_POSITIONS = np.empty(0, np.int64)


def rows_of(segment: Segment, kind: pa.StructType, without: np.ndarray) -> Iterator[Rows]:
    """A segment's records and vectors, but for those at some positions.

    Args:
        kind: the type that the records get.
    """
    end = 0
    for batch in segment.batches():
        start, end = end, end + len(batch)
        kept = np.setdiff1d(np.arange(start, end), without, assume_unique=True)
        if len(kept):
            taken = batch if len(kept) == len(batch) else batch.take(integers(kept - start))
            yield conformed(taken, kind), segment.vectors(kept)
