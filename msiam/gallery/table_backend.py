"""A backend whose vectors are a table of an engine elsewhere; the gallery's file says which."""

from __future__ import annotations

import contextlib
import os
import weakref
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from secrets import token_hex
from typing import Any, ClassVar, ParamSpec, Self, TypeVar

import numpy as np
import pydantic

from msiam.errors import BackendError, GalleryError
from msiam.gallery.backend import Backend, as_mask, as_vectors
from msiam.gallery.drafts import Draft, left_behind
from msiam.gallery.vector_table import TableOptions, VectorTable

#: How many queries an engine is asked at once.
QUERIES = 1000
P = ParamSpec("P")
T = TypeVar("T")


class Place(pydantic.BaseModel, frozen=True, extra="forbid"):
    """What the gallery's file says: all that it takes to find the table, but for secrets."""

    backend: str
    options: dict[str, Any]
    table: str = pydantic.Field(pattern="^msiam_[0-9a-f]{16}$")
    count: int
    dim: int


class TableBackend(Backend):
    """Vectors in a table of an engine elsewhere. A plugin subclasses it and names its table.

    A gallery's files are written once, and so is a table: ``build`` fills a new one under a name
    of its own, ``save`` writes down which, and ``discard`` drops it. One that was built and never
    saved, as when the build fails, is dropped at once; that of a builder that was killed, by the
    next build in the same engine on this machine.

    Attributes:
        name: the backend's registered name.
        table: how the engine does it.
    """

    Options: ClassVar[type[TableOptions]] = TableOptions
    name: ClassVar[str]
    table: ClassVar[type[VectorTable[Any]]]

    def __init__(self, table: VectorTable[Any], count: int, draft: Draft | None = None) -> None:
        self._table = table
        self._count = count
        self._draft = draft
        self._end = (
            weakref.finalize(self, table.close)
            if draft is None
            else weakref.finalize(self, _abandon, table, draft)
        )
        # At the end of the process a client may hang; what it leaves, the next build drops.
        self._end.atexit = False

    @classmethod
    def build(cls, vectors: Iterable[np.ndarray], dim: int, options: Any) -> Self:
        """Fill a new table, in blocks of up to ``table.rows`` vectors, and index it.

        Raises:
            GalleryError: as every backend.
            BackendError: the engine cannot be reached, or refuses.
        """
        blocks = _blocks((as_vectors(c, dim, "vectors to index") for c in vectors), cls.table.rows)
        block = next(blocks, None)
        if block is None:
            raise GalleryError(f"{cls.name}: no vectors to index; at least one is needed")
        for old, name, given in left_behind(cls.name, options.url):
            try:
                then = cls.Options.model_validate(given)
            except ValueError:  # options that it had in another version
                continue
            _abandon(cls.table(then, name, dim), old)
        table = cls.table(options, f"msiam_{token_hex(8)}", dim)
        draft = Draft.of(cls.name, table.name, options.model_dump(mode="json"))
        count = 0
        try:
            cls._ask(table, table.create)
            while block is not None:
                cls._ask(table, table.insert, count, block)
                count += len(block)
                block = next(blocks, None)
            cls._ask(table, table.finish, count)
        except BaseException:
            _abandon(table, draft)
            raise
        return cls(table, count, draft)

    @classmethod
    def open(cls, path: Path, options: Any) -> Self:
        """Find the table that ``save`` wrote down.

        Raises:
            GalleryError: the engine cannot be reached, has no such table, or fewer or more vectors
                in it than were put there; or the file is none of this backend's.
            FileNotFoundError: the file is not there.
        """
        place = cls._read(path)
        table = cls.table(options, place.table, place.dim)
        count = cls._ask(table, table.count)
        if count != place.count:
            table.close()
            if not path.exists():  # a newer gallery took the place of this one meanwhile
                raise FileNotFoundError(2, os.strerror(2), str(path))
            found = "there is no such table" if count is None else f"has {count} vectors"
            raise GalleryError(
                f"{cls._where(table)}: {found}, and {path} had {place.count} put there; restore "
                "it, or make the gallery again with msiam index"
            )
        return cls(table, place.count)

    def save(self, path: Path) -> None:
        table = self._table
        place = Place(
            backend=self.name, options=table.options.model_dump(mode="json"), table=table.name,
            count=self._count, dim=table.dim,
        )  # fmt: skip
        # First the file, then the table: whatever is cut off between, discard finds its name.
        with path.open("w", encoding="utf-8") as file:
            file.write(place.model_dump_json(indent=1))
            file.flush()
            os.fsync(file.fileno())
        if self._draft is not None:
            self._ask(table, table.publish)
            self._draft.forget()
            self._draft = None
            self._end.detach()
            self._end = weakref.finalize(self, table.close)

    @classmethod
    def discard(cls, path: Path) -> None:
        """Drop the table. Where the engine cannot be reached, the next build drops it."""
        try:
            place = cls._read(path)
            options = cls.Options.model_validate(place.options)
        except (OSError, ValueError, GalleryError):
            return  # cut off while it was written: the note of the builder knows the table
        table = cls.table(options, place.table, place.dim)
        draft = Draft.of(cls.name, table.name, place.options)
        _abandon(table, draft)

    def search(
        self, queries: np.ndarray, k: int, among: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        queries = as_vectors(queries, self.dim, "queries")
        if among is not None:
            among = as_mask(among, self._count)
            if not self.filters:
                raise GalleryError(f"backend {self.name}: does not search among some positions")
        wanted = min(k, self._count)
        most = self._table.most
        if most is not None and wanted > most:
            raise GalleryError(f"k: found {k}, and {self._where(self._table)} gives {most} at most")
        scores = np.full((len(queries), k), -np.inf, np.float32)
        positions = np.full((len(queries), k), -1, np.int64)
        for start in range(0, len(queries), QUERIES):
            part = slice(start, start + QUERIES)
            found = self._nearest(queries[part], wanted, among)
            scores[part, :wanted], positions[part, :wanted] = found
        return scores, positions

    def _nearest(
        self, queries: np.ndarray, k: int, among: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k nearest, equal scores by position.

        Most engines give any of those that share the last place. One more than is wanted shows
        whether some do; they are then asked for more, until all of these are there.
        """
        table, count = self._table, self._count
        settled = table.ordered or not self.exact
        largest = min(count, table.most or count)
        size = k if settled else min(k + 1, largest)
        while True:
            scores, positions = self._ask(table, table.nearest, queries, size, among)
            order = np.lexsort((positions, -scores))
            scores = np.take_along_axis(scores, order, 1)
            shared = np.isfinite(scores[:, -1]) & (scores[:, k - 1] == scores[:, -1])
            if settled or size == largest or not shared.any():
                positions = np.take_along_axis(positions, order, 1)
                return scores[:, :k], positions[:, :k]
            size = min(4 * size, largest)

    @property
    def reconstructs(self) -> bool:
        return self._table.reconstructs

    def reconstruct(self, positions: np.ndarray) -> np.ndarray:
        if not self.reconstructs:
            return super().reconstruct(positions)
        distinct, places = np.unique(positions, return_inverse=True)
        found = np.empty((len(distinct), self.dim), np.float32)
        for start in range(0, len(distinct), self._table.rows):
            part = slice(start, start + self._table.rows)
            found[part] = self._ask(self._table, self._table.vectors, distinct[part])
        return found[places]

    def __len__(self) -> int:
        return self._count

    @property
    def dim(self) -> int:
        return self._table.dim

    @classmethod
    def _read(cls, path: Path) -> Place:
        try:
            place = Place.model_validate_json(path.read_bytes())
        except pydantic.ValidationError as error:
            raise GalleryError(f"{path}: says of no table where it is; it is damaged") from error
        if place.backend != cls.name:
            raise GalleryError(f"{path}: its table is one of {place.backend}, not of {cls.name}")
        return place

    @classmethod
    def _where(cls, table: VectorTable[Any]) -> str:
        return f"{cls.name}://{table.options.url}: table {table.name}"

    @classmethod
    def _ask(
        cls, table: VectorTable[Any], action: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Do it, and say in one line what the engine has against it, without its secrets."""
        try:
            return action(*args, **kwargs)
        except table.failures as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            for name in table.secrets:
                if secret := os.environ.get(name):
                    reason = reason.replace(secret, f"(${name})")
            raise BackendError(
                f"{cls._where(table)}: {reason:.500}; see that the engine runs and can be reached"
            ) from error


def _abandon(table: VectorTable[Any], draft: Draft) -> None:
    """Drop a table that no gallery has; where that fails, leave it to the next build."""
    try:
        with contextlib.closing(table):
            table.drop()
    except table.failures:
        draft.leave()
    else:
        draft.forget()


def _blocks(chunks: Iterator[np.ndarray], rows: int) -> Iterator[np.ndarray]:
    """The same vectors in blocks of ``rows`` at most: an engine takes few large ones better."""
    held: list[np.ndarray] = []
    size = 0
    for chunk in chunks:
        for start in range(0, len(chunk), rows):
            piece = chunk[start : start + rows]
            if size + len(piece) > rows:
                yield np.concatenate(held)
                held, size = [], 0
            held.append(piece)
            size += len(piece)
    if held:
        yield np.concatenate(held)
