"""Gives a gallery another index, over the vectors that it has."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from msiam.gallery.backend import Backend
from msiam.gallery.manifest import Manifest
from msiam.gallery.segment_writing import Rows, write_segment
from msiam.gallery.segments import Segments
from msiam.gallery.writing import commit, writing
from msiam.registry.options import parse_options
from msiam.registry.registry import registry


def reindex(folder: Path, options: dict[str, Any]) -> None:
    """Write all records of a gallery anew, as one segment with the backend's options.

    Readers see the old gallery or the new one, whole.

    Raises:
        GalleryError: another process is writing it; the backend refuses the options.
        RecipeError: the backend has no such option.
        RunError: the disk is full. The gallery is then as it was before.
    """
    with writing(folder):
        manifest = Manifest.read(folder)
        kind: type[Backend] = registry().find("backend", manifest.backend, str(folder)).load()
        parsed = parse_options(kind, options, f"{folder}: backend {manifest.backend}")
        segments = Segments.open(folder, manifest)
        files, _ = write_segment(folder, manifest.backend, lambda count: parsed, _rows(segments))
        changed = {
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "options": parsed.model_dump(mode="json"),
            "segments": [] if files is None else [files],
        }
        commit(folder, manifest.model_copy(update=changed))


def _rows(segments: Segments) -> Iterator[Rows]:
    start = 0
    for batch in segments.batches():
        yield batch, segments.vectors(np.arange(start, start + len(batch)))
        start += len(batch)
