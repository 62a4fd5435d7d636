"""Builds a gallery: embeds a table's rows, and writes its catalogue, its index and its manifest."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from msiam.errors import GalleryError, one_of
from msiam.gallery.backend import Backend
from msiam.gallery.catalogue import CatalogueWriter, record_columns, record_ids
from msiam.gallery.manifest import Manifest, Stored, commit, writing
from msiam.registry.options import parse_options
from msiam.registry.registry import registry

if TYPE_CHECKING:
    from msiam.data.sources import Source, Table
    from msiam.towers.inference import How

#: Rows embedded at once, so that the pictures of a large table never sit in memory together.
ROWS = 2048

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
    source: Source,
    column: str,
    folder: Path,
    id_column: str | None,
    backend: str,
    options: Mapping[str, Any],
    run: str | Path | None,
    progress: Progress | None,
) -> list[tuple[int, str]]:
    """Write a gallery, or replace the one that is there. See ``Gallery.build`` for arguments.

    Returns:
        The row and the reason of each row that was set aside.
    """
    # Opening tables needs the library datasets, which searching does not.
    from msiam.data.sources import open_table

    check_column(model, column)
    kind: type[Backend] = registry().find("backend", backend).load()
    parsed = parse_options(kind, options, f"backend {backend}")
    table = open_table(source)
    table.require(column)
    ids = record_ids(table, id_column)
    rejected: list[tuple[int, str]] = []
    with writing(folder):
        generation = token_hex(4)
        catalogue = folder / f"catalogue-{generation}.arrow"
        place = folder / f"index-{generation}.{backend}"
        with (
            catalogue.open("wb") as file,
            CatalogueWriter(file, record_columns(table, id_column)) as writer,
        ):
            vectors = _embed(model, table, column, ids, writer, rejected, progress)
            first = next(vectors, None)
            if first is None:
                row, reason = rejected[0]
                raise GalleryError(
                    f"{table.name}: none of its {len(table)} rows can be embedded; row {row}: "
                    f"{reason}"
                )
            index = kind.build(itertools.chain([first], vectors), first.shape[1], parsed)
        index.save(place)
        manifest = Manifest(
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            count=len(index),
            dim=index.dim,
            column=column,
            id=id_column,
            backend=backend,
            options=parsed.model_dump(mode="json"),
            fingerprint=model.fingerprint(),
            run=_relative(run, folder),
            table=table.name,
            root=_relative(table.root, folder),
            catalogue=Stored.of(catalogue),
            index=Stored.of(place),
        )
        commit(folder, manifest)
    return rejected


def check_column(model: Embedder, column: str) -> None:
    """Raise unless the model has the column, with the nearest name.

    Raises:
        GalleryError: it has no such column.
    """
    if column not in model.columns:
        raise GalleryError(f"the model has no column '{column}'; {one_of(column, model.columns)}")


def _embed(
    model: Embedder,
    table: Table,
    column: str,
    ids: list[str],
    writer: CatalogueWriter,
    rejected: list[tuple[int, str]],
    progress: Progress | None,
) -> Iterator[np.ndarray]:
    """Embed the table chunk by chunk, write each chunk's records, note what is set aside."""
    from msiam.towers.inference import KEPT  # and torch, which searching in vectors does not need

    arrow = table.dataset.with_format("arrow")
    for start in range(0, len(table), ROWS):
        chunk = arrow[start : start + ROWS]
        items = chunk.column(column).to_pylist()
        vectors, unread = model.embed(column, items, table.root, progress, KEPT)
        rejected += [(start + row, reason) for row, reason in unread]
        good = np.delete(np.arange(len(items)), [row for row, _ in unread])
        bad = good[~np.isfinite(vectors).all(axis=1)]
        if len(bad):
            raise GalleryError(
                f"{table.name}: row {start + bad[0]}: the model's embedding holds NaN or infinity"
            )
        if len(good):
            writer.write([ids[start + row] for row in good], chunk.take(good))
            yield vectors


def _relative(path: str | Path | None, folder: Path) -> str | None:
    """The path as seen from the folder, so that both may move together."""
    return None if path is None else os.path.relpath(Path(path).resolve(), folder.resolve())
