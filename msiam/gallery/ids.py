"""Record ids: texts or whole numbers, each there once, in a table of any length."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from msiam.errors import GalleryError

if TYPE_CHECKING:
    from msiam.data.streams import Stream

ROWS = 1 << 16  # ids read at a time
FEW = 1 << 18  # rows whose digests stay in memory; those of more go to disk
SHARES = 256  # of the digests, looked through one after the other
_SEEN = np.dtype([("high", "<u8"), ("low", "<u8"), ("row", "<u8")])


def check_ids(table: Stream, column: str | None, near: Path) -> None:
    """Read all ids once; none of them stays in memory.

    Args:
        column: None: ids are the rows' numbers, and right.
        near: where a folder is being made; digests of very many ids are put on the same disk.

    Raises:
        DataError: the table has no such column.
        GalleryError: an id is missing, there twice, or neither a text nor a whole number.
    """
    if column is None:
        return
    table.require(column)
    with Repetition(near) as repetition:
        for start, window in table.windows([column], ROWS):
            repetition.add(record_ids(table, column, window.column(0).to_pylist(), start))
        found = repetition.find()
    if found is not None:
        first, row = found
        _, window = next(table.windows([column], 1, row))
        raise GalleryError(
            f"{table.name}: rows {first} and {row} have the same '{column}', "
            f"'{window.column(0)[0].as_py()}'; an id must be unique"
        )


def record_ids(table: Stream, column: str | None, values: Sequence[Any], start: int) -> list[str]:
    """The ids of a window of rows, of which the first is row ``start``.

    Args:
        values: what stands in the column; without a column, anything of that length.

    Raises:
        GalleryError: an id is missing, or neither a text nor a whole number.
    """
    if column is None:
        return [str(row) for row in range(start, start + len(values))]
    for row, value in enumerate(values, start):
        if value is None or value == "":
            raise GalleryError(
                f"{table.name}: row {row} has no '{column}'; each record needs an id"
            )
        if not isinstance(value, str | int) or isinstance(value, bool):
            raise GalleryError(
                f"{table.name}: row {row}: '{column}' is {value!r:.60}; an id must be a text or a "
                "whole number"
            )
    return [str(value) for value in values]


class Repetition:
    """Finds a text that comes twice among any number, by digests of 128 bits.

    Those of very many are dealt out to files by their first byte, so that a 256th of them is in
    memory at a time.
    """

    def __init__(self, near: Path) -> None:
        self._near = next(folder for folder in (near, *near.parents) if folder.is_dir())
        self._seen: list[np.ndarray] = []
        self._waiting = self._count = 0
        self._files: list[IO[bytes]] = []
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Repetition:
        return self

    def __exit__(self, *failure: object) -> None:
        self._open.close()

    def add(self, texts: Sequence[str]) -> None:
        """The next texts, in order."""
        digests = [
            blake2b(t.encode(errors="surrogatepass"), digest_size=16).digest() for t in texts
        ]
        halves = np.frombuffer(b"".join(digests), dtype="<u8").reshape(-1, 2)
        seen = np.empty(len(texts), dtype=_SEEN)
        seen["high"], seen["low"] = halves.T
        seen["row"] = np.arange(self._count, self._count + len(texts))
        self._seen.append(seen)
        self._count += len(texts)
        self._waiting += len(texts)
        if self._waiting > FEW:
            self._deal_out()

    def find(self) -> tuple[int, int] | None:
        """The first row whose text was there before, after the row where that was; None: none."""
        if self._files:
            self._deal_out()
            shares: Iterable[np.ndarray] = (self._read(file) for file in self._files)
        else:
            shares = [np.concatenate([np.empty(0, _SEEN), *self._seen])]
        found = [pair for share in shares if (pair := _twice(share)) is not None]
        return min(found, key=lambda pair: pair[1], default=None)

    def _deal_out(self) -> None:
        if not self._files:
            self._files = [
                self._open.enter_context(tempfile.TemporaryFile(dir=self._near))  # noqa: SIM115
                for _ in range(SHARES)
            ]
        seen = np.concatenate([np.empty(0, _SEEN), *self._seen])
        share = seen["high"] % SHARES
        order = np.argsort(share, kind="stable")
        cuts = np.searchsorted(share[order], np.arange(1, SHARES))
        for file, part in zip(self._files, np.split(seen[order], cuts), strict=True):
            file.write(part.tobytes())
        self._seen, self._waiting = [], 0

    @staticmethod
    def _read(file: IO[bytes]) -> np.ndarray:
        file.seek(0)
        return np.frombuffer(file.read(), dtype=_SEEN)


def _twice(seen: np.ndarray) -> tuple[int, int] | None:
    order = np.lexsort((seen["row"], seen["low"], seen["high"]))
    ordered = seen[order]
    same = (ordered["high"][1:] == ordered["high"][:-1]) & (
        ordered["low"][1:] == ordered["low"][:-1]
    )
    later = np.flatnonzero(same) + 1
    if not len(later):
        return None
    at = later[np.argmin(ordered["row"][later])]
    return int(ordered["row"][at - 1]), int(ordered["row"][at])
