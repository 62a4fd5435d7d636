"""Builds a gallery: embeds a table's rows, and writes its catalogue, its index and its manifest."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from msiam.errors import GalleryError, one_of
from msiam.gallery.backend import Backend, as_vectors
from msiam.gallery.backend_url import named_backend
from msiam.gallery.catalogue import record_batch, record_columns
from msiam.gallery.ids import check_ids, record_ids
from msiam.gallery.manifest import Manifest
from msiam.gallery.segment_writing import Rows, write_segment
from msiam.gallery.writing import commit, writing
from msiam.registry.options import parse_options
from msiam.registry.registry import registry

if TYPE_CHECKING:
    from msiam.data.sources import Source
    from msiam.data.streams import Stream
    from msiam.towers.inference import How, Precision

#: Rows in memory at once, whatever the length of the table.
ROWS = 2048
#: The rows of a table whose frozen vectors are kept for the next time. What is kept is found by
#: keys in memory, which for any number of rows there is none.
MOST_KEPT = 1 << 20

Progress = Callable[[int], None]


class Embedder(Protocol):
    """What a gallery asks of a model. ``msiam.Model`` has it."""

    columns: dict[str, str]

    def embed(
        self,
        column: str,
        items: Sequence[Any],
        root: Path | None = None,
        progress: Progress | None = None,
        how: How = ...,
    ) -> tuple[np.ndarray, list[tuple[int, str]]]: ...

    def column_for(self, query: Any, but: str | None = None) -> str: ...

    def fingerprint(self) -> str: ...


def build_gallery(
    model: Embedder,
    source: Source | Stream,
    column: str,
    folder: Path,
    id_column: str | None,
    backend: str,
    options: Mapping[str, Any],
    run: str | Path | None,
    progress: Progress | None,
    precision: Precision,
) -> list[tuple[int, str]]:
    """Write a gallery, or replace the one that is there. See ``Gallery.build`` for arguments.

    Returns:
        The row and the reason of each row that was set aside.
    """
    # Opening tables needs the library datasets, and embedding torch, which searching in vectors
    # does not.
    from msiam.data.streams import open_stream
    from msiam.towers.inference import How

    check_column(model, column)
    backend, options = named_backend(backend, options)
    kind: type[Backend] = registry().find("backend", backend).load()
    parsed = parse_options(kind, options, f"backend {backend}")
    table = open_stream(source)
    how = How(precision=precision, keep=len(table) <= MOST_KEPT)
    table.require(column)
    check_ids(table, id_column, folder)
    columns = record_columns(table, id_column)
    rejected: list[tuple[int, str]] = []
    with writing(folder):
        rows = embedded(model, table, column, id_column, columns, rejected, progress, how)
        files, dim = write_segment(folder, backend, lambda count: parsed, rows)
        if files is None:
            row, reason = rejected[0]
            raise GalleryError(
                f"{table.name}: none of its {len(table)} rows can be embedded; row {row}: {reason}"
            )
        manifest = Manifest(
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            count=files.count,
            dim=dim,
            column=column,
            id=id_column,
            backend=backend,
            options=parsed.model_dump(mode="json"),
            fingerprint=model.fingerprint(),
            run=_relative(run, folder),
            table=table.name,
            root=_relative(table.root, folder),
            segments=[files],
        )
        commit(folder, manifest)
    return rejected


def check_column(model: Embedder, column: str) -> None:
    """Raise unless the model has the column, with the nearest name.

    Raises:
        GalleryError: it has no such column, or is no model.
    """
    if not hasattr(model, "fingerprint"):
        raise GalleryError(f"found a {type(model).__name__}; give a model, as run.model is one")
    if column not in model.columns:
        raise GalleryError(f"the model has no column '{column}'; {one_of(column, model.columns)}")


def check_fingerprint(model: Embedder, manifest: Manifest, folder: Path) -> None:
    """Raise unless the model is the one that made the gallery.

    Raises:
        GalleryError: it is another.
    """
    found = model.fingerprint()
    if found != manifest.fingerprint:
        raise GalleryError(
            f"{folder}: another model made it ({manifest.fingerprint}, and this one is {found}), "
            "so its scores would mean nothing; make it again with msiam index"
        )


def paired(
    table: Stream, vectors: Any, dim: int, id_column: str, columns: list[str]
) -> Iterator[Rows]:
    """The rows of a table as records, each with its own of the vectors, a window at a time.

    Raises:
        GalleryError: there are not as many vectors as rows, or one has another width, is zero, or
            holds NaN.
    """
    if len(vectors) != len(table):
        raise GalleryError(
            f"{table.name}: has {len(table)} rows, and there are {len(vectors)} vectors; give one "
            "for each row"
        )
    for start, window in table.windows([id_column, *columns], ROWS):
        end = start + len(window)
        part = as_vectors(vectors[start:end], dim, f"{table.name}: vectors from {start} on")
        zero = np.flatnonzero(~part.any(axis=1))
        if len(zero):
            raise GalleryError(
                f"{table.name}: the vector of row {start + zero[0]} is zero, which is near nothing"
            )
        ids = record_ids(table, id_column, window.column(id_column).to_pylist(), start)
        yield record_batch(ids, window, columns), part


def embedded(
    model: Embedder,
    table: Stream,
    column: str,
    id_column: str | None,
    columns: list[str],
    rejected: list[tuple[int, str]],
    progress: Progress | None,
    how: How,
) -> Iterator[Rows]:
    """The rows of a table as records and their vectors, a window at a time.

    Args:
        columns: those that records keep.
        rejected: what is set aside is noted here.
    """
    named = id_column or column
    for start, window in table.windows([column, named, *columns], ROWS):
        items = window.column(column).to_pylist()
        ids = record_ids(table, id_column, window.column(named).to_pylist(), start)
        vectors, unread = model.embed(column, items, table.root, progress, how)
        rejected += [(start + row, reason) for row, reason in unread]
        good = np.delete(np.arange(len(items)), [row for row, _ in unread])
        bad = good[~np.isfinite(vectors).all(axis=1)]
        if len(bad):
            raise GalleryError(
                f"{table.name}: row {start + bad[0]}: the model's embedding holds NaN or infinity"
            )
        if len(good):
            yield record_batch([ids[row] for row in good], window.take(good), columns), vectors


def _relative(path: str | Path | None, folder: Path) -> str | None:
    """The path as seen from the folder, so that both may move together."""
    return None if path is None else os.path.relpath(Path(path).resolve(), folder.resolve())
