"""What an embedding has written so far: whole windows of rows, each a file, beside the result."""

from __future__ import annotations

import contextlib
import glob
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from msiam.errors import RunError
from msiam.paths import check_place, replacing, room_on_disk, take_lock, write_text

STATE = b"msiam"  # the key, in a file's metadata, of what it was made of
REJECTED = b"rejected"
NAMES = {
    "model": "model",
    "table": "table",
    "column": "column",
    "id": "id column",
    "precision": "precision",
    "rows": "number of rows at a time",
}
#: What several processes need that embed one table.
SHARED = (
    "run, table and result must lie where every worker sees them under the same name, on a shared "
    "file system"
)


class Parts:
    """The folder .NAME.parts beside a file NAME.

    It has state.json, what the result is being made of; a file for each window that is whole, by
    the number of its first row; and at the end ``whole``, which is renamed to the result.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.folder = out.with_name(f".{out.name}.parts")
        self._lock = self.folder / ".lock"
        self._state = self.folder / "state.json"
        self._whole = self.folder / "whole"
        self._held: TextIO | None = None

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Be the one process that writes here. What was never begun leaves no folder.

        Raises:
            RunError: another process writes, the folder cannot be written, or the disk is full.
        """
        check_place(self.out)
        with room_on_disk(self.out):
            self.folder.mkdir(exist_ok=True)
            with self._lock.open("a") as lock:
                self._take(lock)
                self._held = lock
                try:
                    yield
                finally:
                    if not (self._state.is_file() and self.names()):
                        shutil.rmtree(self.folder, ignore_errors=True)

    def share(self) -> None:
        """Let others help. Nobody can begin anew while any of them is at work."""
        assert self._held is not None, "share is for the process that writes"
        self._take(self._held, shared=True)

    @contextlib.contextmanager
    def helping(self, state: Mapping[str, str | int | None]) -> Iterator[None]:
        """Have a part in what another process has begun. Whoever begins anew waits for the end.

        Raises:
            RunError: it is not here, or was made of something else than this process has.
        """
        try:
            lock = self._lock.open("a")
        except FileNotFoundError as error:
            raise RunError(f"{self.out}: nothing was begun here; {SHARED}") from error
        with lock:
            self._take(lock, shared=True)
            self._check(_read(self._state), state, SHARED)
            yield

    def _take(self, lock: TextIO, shared: bool = False) -> None:
        try:
            take_lock(lock, shared)
        except BlockingIOError as error:
            raise RunError(
                f"{self.out}: another process is writing it; wait for it, or give another file "
                "with --out"
            ) from error

    def begin(self, state: Mapping[str, str | int | None], resume: bool, overwrite: bool) -> bool:
        """Go on with what is there, or begin; whether the result is there already, and whole.

        Args:
            state: all that the result depends on.

        Raises:
            RunError: there is an unfinished embedding, and neither ``resume`` nor ``overwrite``
                is asked for; what is to be resumed was made of something else.
        """
        begun, whole = self.begun, False
        if begun and not (resume or overwrite):
            raise RunError(
                f"{self.out}: an unfinished embedding of it is there; go on with --resume, or "
                "begin again with --overwrite (in Python: resume=True, overwrite=True)"
            )
        if begun and resume:
            self._check(_read(self._state), state, "begin again with --overwrite")
        elif resume and self.out.is_file():
            self._check(self._made_of(), state, "leave --resume out to replace it")
            whole = True
        else:
            self._state.unlink(missing_ok=True)  # first: windows without it count for nothing
            for path in (*self.names(), self._whole):
                path.unlink(missing_ok=True)
            write_text(self._state, json.dumps(state))
        beside = self.out.parent.glob(f".{glob.escape(self.out.name)}.*.draft")
        left = (*beside, *self.folder.glob(".*.draft"), *self.folder.glob(".*.tries"))
        for path in left:  # by one that was killed
            path.unlink()
        return whole

    @property
    def begun(self) -> bool:
        """Whether there is one that is not whole yet."""
        return self._state.is_file()

    def names(self) -> list[Path]:
        """The windows' files, in order."""
        return sorted(self.folder.glob("*.parquet"))

    def starts(self) -> set[int]:
        """The first rows of the windows that are whole."""
        return {int(path.stem) for path in self.names()}

    def tried(self, start: int) -> int:
        """Note that a process begins the window with this first row; how often it was before."""
        with (self.folder / f".{start:015}.tries").open("ab") as tries:
            before = tries.tell()
            tries.write(b".")
        return before

    def write(self, start: int, rows: pa.Table, rejected: list[tuple[int, str]]) -> None:
        """Keep a window: its embedded rows, and number and reason of the others."""
        noted = rows.replace_schema_metadata({REJECTED: json.dumps(rejected)})
        with replacing(self.folder / f"{start:015}.parquet") as draft:
            pq.write_table(noted, draft, compression="none", use_dictionary=False)

    def finish(self, schema: pa.Schema, most: int) -> tuple[int, int, list[tuple[int, str]]]:
        """Join all windows into the result, and remove them.

        Returns:
            How many rows were embedded and how many were not, and ``most`` of those, with reasons.
        """
        count, left_out = 0, 0
        rejected: list[tuple[int, str]] = []
        for part in self.names():
            found = pq.read_metadata(part)
            count += found.num_rows
            reasons = json.loads(found.metadata[REJECTED])
            left_out += len(reasons)
            rejected += [(row, why) for row, why in reasons[: most - len(rejected)]]
        if not self._whole.is_file():
            state = _read(self._state)
            metadata = {STATE: json.dumps({**state, "left_out": left_out})}
            with (
                replacing(self._whole) as draft,
                pq.ParquetWriter(
                    draft, schema.with_metadata(metadata), compression="none", use_dictionary=False
                ) as writer,
            ):
                for part in self.names():
                    writer.write_table(pq.ParquetFile(part).read())
        self._whole.replace(self.out)
        self._state.unlink()
        shutil.rmtree(self.folder, ignore_errors=True)  # NFS keeps what is still open
        return count, left_out, rejected

    def found(self) -> tuple[int, int]:
        """How many rows of a result that is whole were embedded, and how many were not."""
        return pq.read_metadata(self.out).num_rows, self._made_of()["left_out"]

    def _made_of(self) -> dict[str, Any]:
        try:
            return json.loads(pq.read_metadata(self.out).metadata[STATE])
        except (pa.ArrowException, TypeError, KeyError) as error:
            raise RunError(
                f"{self.out}: is no embedding of msiam; leave --resume out to replace it"
            ) from error

    def _check(
        self, began: dict[str, Any], state: Mapping[str, str | int | None], instead: str
    ) -> None:
        for key, name in NAMES.items():
            if began.get(key) != state[key]:
                raise RunError(
                    f"{self.out}: was begun with another {name} ({began.get(key)}, and this one is "
                    f"{state[key]}), and goes on only as it began; {instead}"
                )


def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))
