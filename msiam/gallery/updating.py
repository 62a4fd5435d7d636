"""Changes a gallery: adds, replaces and removes records.

Files that are there stay as they are. More records are one more segment, and those that are
removed are noted beside theirs; the manifest makes both the gallery, in one step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from msiam.errors import GalleryError
from msiam.gallery.backend import Backend
from msiam.gallery.building import (
    MOST_KEPT,
    Embedder,
    Progress,
    check_fingerprint,
    embedded,
    paired,
)
from msiam.gallery.catalogue import common_type, conformed, record_batch, record_columns
from msiam.gallery.columns import Columns
from msiam.gallery.compacting import rows_of
from msiam.gallery.filters import Filter
from msiam.gallery.ids import check_ids, record_ids
from msiam.gallery.manifest import Manifest, SegmentFiles
from msiam.gallery.roots import file_columns, rebased
from msiam.gallery.segment import Segment
from msiam.gallery.segment_writing import Rows, write_dead, write_segment
from msiam.gallery.segments import Segments
from msiam.gallery.writing import commit, writing
from msiam.registry.options import parse_options
from msiam.registry.registry import registry

if TYPE_CHECKING:
    from msiam.data.sources import Source
    from msiam.data.streams import Stream
    from msiam.towers.inference import How, Precision


def add_records(
    folder: Path,
    model: Embedder | None,
    source: Source | Stream,
    id_column: str | None,
    *,
    vectors: Any | None,
    replace: bool,
    root: Path | None,
    wait: bool,
    progress: Progress | None,
    precision: Precision,
) -> list[tuple[int, str]]:
    """Add a table's rows. See ``Gallery.add`` and ``Gallery.upsert`` for arguments.

    Args:
        replace: records with the same ids, instead of refusing them.
        root: the folder from which the gallery's records name files.

    Returns:
        The row and the reason of each row that was set aside.
    """
    from msiam.data.streams import open_stream

    Manifest.read(folder)  # before its folder is made
    table = open_stream(source)
    with writing(folder, wait):
        manifest = Manifest.read(folder)
        segments = Segments.open(folder, manifest)
        id_column = _id_column(id_column, manifest, folder)
        check_ids(table, id_column, folder)
        if not replace:
            _refuse_known(table, id_column, segments, folder)
        columns = record_columns(table, id_column)
        kind = _common_type(table, columns, segments)
        files = file_columns(table)
        rejected: list[tuple[int, str]] = []
        old = _small(segments.parts, len(table))
        removed: list[np.ndarray] = []
        if vectors is not None:
            fresh = paired(table, vectors, manifest.dim, id_column, columns)
        else:
            model = _model(model, manifest, folder)
            table.require(manifest.column)
            how = _how(precision, len(table))
            fresh = embedded(
                model, table, manifest.column, id_column, columns, rejected, progress, how
            )

        def rows() -> Iterator[Rows]:
            """The new ones; then those of small segments, which are merged with them."""
            written = []
            for batch, new in fresh:
                written.append(batch.column("id"))
                yield conformed(rebased(batch, files, table.root, root), kind), new
            ids = pa.concat_arrays(written) if written else pa.array([], pa.string())
            known = segments.find(ids)
            removed.extend(segments.share(known[known >= 0]))
            for segment, gone in zip(segments.parts, removed, strict=True):
                if segment in old and written:
                    yield from rows_of(segment, kind, gone)

        new, _ = write_segment(folder, manifest.backend, _few(manifest), rows())
        if new is None:
            return rejected
        kept = [
            _without(folder, segment, gone)
            for segment, gone in zip(segments.parts, removed, strict=True)
            if segment not in old
        ]
        _commit(folder, manifest, [*kept, new])
    return rejected


def remove_records(
    folder: Path, ids: Sequence[str] | None, where: str | None, missing_ok: bool, wait: bool
) -> int:
    """Remove records. See ``Gallery.remove`` for arguments.

    Returns:
        How many.
    """
    Manifest.read(folder)
    with writing(folder, wait):
        manifest = Manifest.read(folder)
        segments = Segments.open(folder, manifest)
        if where is not None:
            positions = _passing(where, manifest, segments)
        else:
            positions = segments.find(ids or [])
            if not missing_ok and (positions < 0).any():
                unknown = str((ids or [])[int(np.argmax(positions < 0))])
                raise GalleryError(f"{folder}: has no record '{unknown:.80}', so none was removed")
        positions = np.unique(positions[positions >= 0])
        if len(positions):
            shares = zip(segments.parts, segments.share(positions), strict=True)
            _commit(folder, manifest, [_without(folder, *share) for share in shares])
    return len(positions)


def _passing(where: str, manifest: Manifest, segments: Segments) -> np.ndarray:
    if not segments.parts:  # and so no columns that could be asked
        Filter(where)
        return np.empty(0, np.int64)
    return np.flatnonzero(Columns(segments.type, manifest.id, segments.batches).passing(where))


def _commit(folder: Path, manifest: Manifest, segments: Iterable[SegmentFiles | None]) -> None:
    kept = [files for files in segments if files is not None]
    count = sum(files.alive for files in kept)
    commit(folder, manifest.model_copy(update={"count": count, "segments": kept}))


def _without(folder: Path, segment: Segment, gone: np.ndarray) -> SegmentFiles | None:
    """The files of a segment without some records, None if these are all that it has."""
    if len(gone) == len(segment):
        return None
    if not len(gone):
        return segment.files
    dead = segment.dead_with(gone)
    return segment.files.model_copy(
        update={"dead": write_dead(folder, dead), "alive": segment.files.count - len(dead)}
    )


def _small(parts: list[Segment], count: int) -> list[Segment]:
    """The last segments that are merged with ``count`` more records.

    Those of up to twice their number are, so that however often a few records are added, there
    are few segments, and each record is written again few times. The first one is left alone.
    """
    found: list[Segment] = []
    for segment in reversed(parts[1:]):
        if len(segment) > 2 * count:
            break
        found.append(segment)
        count += len(segment)
    return found


def _id_column(given: str | None, manifest: Manifest, folder: Path) -> str:
    if given is None and manifest.id is None:
        raise GalleryError(
            f"{folder}: its ids are row numbers, which the rows of another table have too; name "
            "the column of the new records' ids"
        )
    return given or str(manifest.id)


def _refuse_known(table: Stream, column: str, segments: Segments, folder: Path) -> None:
    for start, window in table.windows([column], 1 << 16):
        ids = record_ids(table, column, window.column(0).to_pylist(), start)
        known = np.flatnonzero(segments.find(ids) >= 0)
        if len(known):
            raise GalleryError(
                f"{table.name}: row {start + known[0]}: {folder} has a record '{ids[known[0]]}' "
                "already; upsert replaces it"
            )


def _common_type(table: Stream, columns: list[str], segments: Segments) -> pa.StructType:
    empty = record_batch([], table.schema.empty_table(), columns)
    try:
        return common_type([segments.type, empty.schema.field("record").type])
    except GalleryError as error:
        raise GalleryError(f"{table.name}: {error}") from error


def _model(model: Embedder | None, manifest: Manifest, folder: Path) -> Embedder:
    """The model that embeds what is added: no other than the gallery's."""
    if model is None:
        raise GalleryError(
            f"{folder}: was opened without a model; open it with the one that made it, "
            "Gallery.open(folder, model), or give vectors"
        )
    check_fingerprint(model, manifest, folder)
    return model


def _how(precision: Precision, count: int) -> How:
    from msiam.towers.inference import How  # and torch, which vectors that are given do not need

    return How(precision=precision, keep=count <= MOST_KEPT)


def _few(manifest: Manifest) -> Callable[[int], Any]:
    """The options of an index of so many more vectors."""
    kind: type[Backend] = registry().find("backend", manifest.backend).load()
    parsed = parse_options(kind, manifest.options, f"backend {manifest.backend}")
    return lambda count: kind.options_for(parsed, count)
