"""Embed one column of a table, however long, into a file."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeAlias, TypeVar

import numpy as np
import pyarrow as pa
import torch
from rich.console import Console

from msiam.data.sources import Source
from msiam.data.streams import Stream, open_stream, place_of
from msiam.embedding.parts import Parts
from msiam.errors import RecipeError
from msiam.gallery.building import MOST_KEPT
from msiam.gallery.ids import check_ids, record_ids
from msiam.paths import check_apart
from msiam.progress import QUIET, items_bar
from msiam.towers.device import use_bf16
from msiam.towers.inference import KEPT, How
from msiam.towers.model import Model

#: Rows embedded together, sorted by length, and written together.
ROWS = 2048
Result = TypeVar("Result")
Progress: TypeAlias = Callable[[int], None]

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


@dataclass(frozen=True)
class Job:
    """An embedding, as every process that has a part in it sees it: what, how, and where to.

    Attributes:
        rows: how many are embedded together and make a window.
    """

    model: Model
    stream: Stream
    out: Path
    column: str
    id: str | None
    how: How
    rows: int

    @classmethod
    def of(
        cls,
        model: Model,
        table: Source | Stream,
        out: Path,
        column: str,
        id: str | None,
        how: How,
        rows: int,
    ) -> Job:
        """Open the table. Raises as ``embed_table``."""
        if out.suffix != ".parquet":
            raise RecipeError(f"{out}: embeddings are written as .parquet; found '{out.suffix}'")
        stream = open_stream(table)
        check_apart(place_of(stream), out)
        stream.require(column)
        how = dataclasses.replace(how, keep=how.keep and len(stream) <= MOST_KEPT)
        return cls(model, stream, out, column, id, how, rows)

    @cached_property
    def parts(self) -> Parts:
        return Parts(self.out)

    @cached_property
    def state(self) -> dict[str, str | int | None]:
        """All that the result depends on."""
        weights = self.model.tower_of(self.column).parameters()
        device = next((w.device for w in weights), torch.device("cpu"))
        return {
            "model": self.model.fingerprint(),
            "table": self.stream.digest(),
            "column": self.column,
            "id": self.id,
            "precision": "bf16" if use_bf16(self.how.precision, device) else "fp32",
            "rows": self.rows,
        }

    @property
    def schema(self) -> pa.Schema:
        vectors = pa.list_(pa.float32(), self.model.dim)
        return pa.schema([("id", pa.string()), ("embedding", vectors)])

    def begin(self, resume: bool, overwrite: bool) -> list[int]:
        """The first rows of the windows that are not embedded yet, ascending."""
        if self.parts.begin(self.state, resume, overwrite):
            return []
        done = self.parts.starts()
        if not done:
            check_ids(self.stream, self.id, self.out.parent)
        return [start for start in range(0, len(self.stream), self.rows) if start not in done]

    def count(self, starts: Sequence[int]) -> int:
        """How many rows the windows with these first rows have."""
        return sum(min(self.rows, len(self.stream) - start) for start in starts)

    def embed(self, starts: Sequence[int], progress: Progress | None = None) -> None:
        """Embed and keep the windows with these first rows, ascending."""
        columns, following = [self.column, self.id or self.column], -1
        windows: Iterator[tuple[int, pa.Table]] = iter(())
        for start in starts:
            if start != following:
                windows = self.stream.windows(columns, self.rows, start)
            _, window = next(windows)
            self._embed(start, window, progress)
            following = start + self.rows

    def _embed(self, start: int, window: pa.Table, progress: Progress | None) -> None:
        items = window.column(self.column).to_pylist()
        vectors, refused = self.model.embed(
            self.column, items, self.stream.root, progress, self.how
        )
        if progress is not None:
            progress(len(refused))
        cells = window.column(self.id or self.column).to_pylist()
        ids = record_ids(self.stream, self.id, cells, start)
        kept = np.delete(np.arange(len(ids)), [number for number, _ in refused])
        rows = pa.table([[ids[row] for row in kept], _fixed(vectors)], schema=self.schema)
        self.parts.write(start, rows, [(start + number, why) for number, why in refused])

    def finish(self) -> Written:
        """Join the windows, or find that the result is whole already."""
        if self.parts.begun:
            return Written(*self.parts.finish(self.schema, REASONS))
        return Written(*self.parts.found())


class Crew:
    """Who embeds: this process alone. What embeds with several says how they share the windows.

    Attributes:
        first: whether this is the process that begins, joins the windows and has the lock.
    """

    first = True

    def tell(self, make: Callable[[], Result]) -> Result:
        """What ``make`` returns in the first process, in all of them."""
        return make()

    def work(self, job: Job, starts: list[int], progress: Progress) -> None:
        """Embed the windows with these first rows; return when all are written."""
        job.embed(starts, progress)


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
    crew: Crew | None = None,
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
        crew: who embeds; None: this process, or the processes that torchrun has started.

    Raises:
        RecipeError: ``out`` is no .parquet file.
        DataError: the table cannot be read, or lacks a column.
        GalleryError: ids that are missing or not unique.
        RunError: ``out`` is the table itself; it cannot be written, or the disk is full: it is then
            as it was. One was stopped, and neither ``resume`` nor ``overwrite`` is given; it was
            begun with another model, table or option; another process writes it; one that helps is
            gone, or does not see the same files.
    """
    crew = crew or _crew()
    job = Job.of(model, table, out, column, id, how, ROWS)
    with job.parts.writing() if crew.first else contextlib.nullcontext():
        todo = crew.tell(lambda: job.begin(resume, overwrite))
        rows = len(job.stream)
        if todo:
            with items_bar(console, "embedding", rows, rows - job.count(todo)) as progress:
                crew.work(job, todo, progress)
        return crew.tell(job.finish)


def _crew() -> Crew:
    if "RANK" in os.environ:
        from msiam.embedding.torchrun import (
            Processes,
        )  # and accelerate, which one process needs not

        return Processes()
    return Crew()


def _fixed(vectors: np.ndarray) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
