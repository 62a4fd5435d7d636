"""What the thread that holds the model does: embed, search, match; and the newest gallery."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from msiam.errors import GalleryError, MsiamError, one_of
from msiam.gallery.gallery import Gallery
from msiam.gallery.manifest import MANIFEST
from msiam.gallery.searchable import SearchOptions
from msiam.serving.problems import ProblemError

if TYPE_CHECKING:
    from msiam.run import Run

log = logging.getLogger(__name__)
Item = str | bytes  # a text, a picture's file


@dataclass(frozen=True)
class Embed:
    """Embed items, each through its column. The answer: (n, dim) float32."""

    items: Sequence[tuple[str, Item]]


@dataclass(frozen=True)
class Search:
    """Search. The answer: a list of hits for each query.

    Attributes:
        queries: vectors, ids of records, or items with their columns.
        how: its options; searches that share them go together.
    """

    queries: Sequence[np.ndarray | str | tuple[str, Item]]
    k: int
    how: SearchOptions = field(default_factory=SearchOptions)

    @property
    def key(self) -> Hashable:
        return self.k, tuple(sorted(self.how.items()))


class Service:
    """A gallery and its run, for many clients.

    Attributes:
        gallery: the newest that was opened. It is replaced as a whole, so take it once.
    """

    def __init__(self, gallery: Gallery, run: Run) -> None:
        self.gallery = gallery
        self.run = run
        model = run.model
        towers = {column: model.tower_of(column).encoder for column in model.columns}
        # A text is never given to a tower that would read the file it names.
        self.texts = [c for c, e in towers.items() if not e.reads_files and e.accepts("text")]
        self.pictures = [c for c, e in towers.items() if e.accepts(b"picture")]
        self._seen = self._state()

    def column_for(self, item: Item, but: str | None, asked: str | None = None) -> str:
        """The model's column that reads an item: the one asked for, or one other than ``but``.

        Raises:
            ProblemError: 422, no column reads it, or the one asked for does not.
        """
        fitting = self.texts if isinstance(item, str) else self.pictures
        kind = "texts" if isinstance(item, str) else "pictures"
        if asked is not None:
            if asked not in self.run.model.columns:
                known = one_of(asked, self.run.model.columns)
                raise ProblemError(422, f"column: the model has no column '{asked}'; {known}")
            if asked not in fitting:
                raise ProblemError(422, f"column: '{asked}' reads no {kind}")
            return asked
        if not fitting:
            raise ProblemError(422, f"no column of this model reads {kind}")
        return next((column for column in fitting if column != but), fitting[0])

    def query_column(self, item: Item, asked: str | None) -> str:
        """The column that reads a query: across from the gallery's own where one can."""
        return self.column_for(item, self.gallery.manifest.column, asked)

    def columns_of(self, a: Item, b: Item) -> tuple[str, str]:
        """The columns through which two items go to be matched.

        Raises:
            ProblemError: 422, both are of one column, for which the threshold was not made, or no
                column reads one; 404, there is no threshold.
        """
        if self.run.calibration is None:
            raise ProblemError(404, "this model has no threshold: nothing was calibrated")
        columns = self.run.model.columns
        one = self.column_for(a, None)
        other = self.column_for(b, one)
        if one == other and len(columns) > 1:
            pair = " ↔ ".join(columns)
            detail = f"both items go through column '{one}', and the threshold is for {pair}"
            raise ProblemError(422, f"{detail}; give one of each")
        return one, other

    def decide(self, similarity: float) -> dict[str, Any]:
        """What the run says of two items of this similarity."""
        calibration = self.run.calibration
        assert calibration is not None  # columns_of has seen to it
        same = bool(calibration.same(similarity))
        words = None if self.run.recipe is None else self.run.recipe.decision
        named = ("same", "different") if words is None else (words.same, words.different)
        return {
            "similarity": similarity,
            "same": same,
            "decision": named[0] if same else named[1],
            "probability": float(calibration.probability(similarity)),
            "threshold": calibration.threshold,
        }

    def records_of(self, ids: Sequence[str]) -> list[dict[str, Any]]:
        """The records of these ids.

        Raises:
            ProblemError: 404, one is not there.
        """
        gallery = self.gallery
        positions = gallery.find(ids)
        for id, position in zip(ids, positions, strict=True):
            if position < 0:
                raise ProblemError(404, f"there is no record '{id:.80}'")
        return [_shown(record) for record in gallery.records(positions)]

    def page(self, offset: int, limit: int) -> tuple[list[dict[str, Any]], int]:
        """Up to ``limit`` records from an offset on, and how many there are."""
        gallery = self.gallery
        total = len(gallery)
        positions = np.arange(min(offset, total), min(offset + limit, total))
        return [_shown(record) for record in gallery.records(positions)], total

    def describe(self) -> dict[str, Any]:
        """What the page has to know before the first search."""
        gallery = self.gallery
        columns = list(gallery.record_type.names)
        own = gallery.manifest.column
        return {
            "records": len(gallery),
            "column": own,
            "columns": columns,
            "pictures": [column for column in columns if column in self.pictures],
            "texts": sorted((c for c in columns if c in self.texts), key=lambda c: c != own),
            "queries": ["text"] * bool(self.texts) + ["picture"] * bool(self.pictures),
            "threshold": gallery.threshold,
        }

    def work(self, jobs: list[Embed | Search]) -> list[Any]:
        """The answer to each job, or the exception that it ends with.

        Items of all jobs go through a tower together, and searches that share their options
        through the index.
        """
        gallery = self.gallery
        vectors = self._embed(jobs)
        answers: list[Any] = list(vectors)
        searches: dict[Hashable, list[int]] = {}
        for number, job in enumerate(jobs):
            if isinstance(job, Search) and not isinstance(vectors[number], Exception):
                searches.setdefault(job.key, []).append(number)
        for numbers in searches.values():
            found = self._search(gallery, jobs, vectors, numbers)
            for number, answer in zip(numbers, found, strict=True):
                answers[number] = answer
        return answers

    def _embed(self, jobs: list[Embed | Search]) -> list[np.ndarray | Exception]:
        """The vectors of each job's items, in their order, or what is wrong with one of them."""
        items = [
            [q for q in (job.items if isinstance(job, Embed) else job.queries) if type(q) is tuple]
            for job in jobs
        ]
        dim = self.gallery.dim
        found: list[np.ndarray | Exception] = [
            np.empty((len(of), dim), dtype=np.float32) for of in items
        ]
        places: dict[str, list[tuple[int, int]]] = {}
        for job, of in enumerate(items):
            for row, (column, _) in enumerate(of):
                places.setdefault(column, []).append((job, row))
        for column, at in places.items():
            vectors, rejected = self.run.model.embed(column, [items[j][r][1] for j, r in at])
            unread = dict(rejected)
            read = iter(vectors)
            for number, (job, row) in enumerate(at):
                if number in unread:
                    found[job] = ProblemError(422, f"a query cannot be read: {unread[number]}")
                    continue
                vector, into = next(read), found[job]
                if isinstance(into, np.ndarray):
                    into[row] = vector
        return found

    def _search(
        self, gallery: Gallery, jobs: list[Any], vectors: list[Any], numbers: list[int]
    ) -> list[Any]:
        """The hits of searches that share their options, or what each ends with."""
        rows: list[np.ndarray] = []
        ids: list[str] = []
        for number in numbers:
            embedded = iter(vectors[number])
            for query in jobs[number].queries:
                if isinstance(query, str):
                    ids.append(query)
                else:
                    rows.append(query if isinstance(query, np.ndarray) else next(embedded))
        first = jobs[numbers[0]]
        try:
            by_vector = gallery.search_vectors(np.stack(rows), first.k, **first.how) if rows else []
            by_id = gallery.search_ids(ids, first.k, **first.how) if ids else []
        except MsiamError as error:
            if len(numbers) == 1:
                return [error]
            # An unknown id is one client's mistake, and no other's.
            return [self._search(gallery, jobs, vectors, [number])[0] for number in numbers]
        found = {True: iter(by_id), False: iter(by_vector)}
        return [[list(next(found[isinstance(q, str)])) for q in jobs[n].queries] for n in numbers]

    def refresh(self) -> bool:
        """Open the gallery again if it was written since; whether it was.

        Raises:
            MsiamError: the newer one cannot be used. The one that is open is kept.
        """
        state = self._state()
        if state == self._seen:
            return False
        # One that cannot be opened may be half copied, or its engine may answer later.
        fresh = Gallery.open(self.gallery.folder)
        self._seen = state
        if fresh.manifest.fingerprint != self.gallery.manifest.fingerprint:
            raise GalleryError(f"{fresh.folder}: another model made it; start the server again")
        fresh.model, fresh.threshold = self.gallery.model, self.gallery.threshold
        self.gallery = fresh
        return True

    def _state(self) -> tuple[int, ...]:
        try:
            found = (self.gallery.folder / MANIFEST).stat()
        except OSError:  # it is being moved away; what is open stays open
            return ()
        return found.st_mtime_ns, found.st_size, found.st_ino


def _shown(record: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    return {"id": record[0], "record": record[1]}
