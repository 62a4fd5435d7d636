"""Tables that are being built, noted on this machine, so that none outlives its builder for long.

A builder that is killed cannot drop its table. Its note remains, and the lock on it is free: the
next build in the same engine drops the table.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from msiam.paths import take_lock


def drafts_folder() -> Path:
    """Where the notes are: ``XDG_STATE_HOME``, which is ``~/.local/state`` unless it is set."""
    place = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(place).expanduser() / "msiam" / "tables"


class Draft:
    """The note of one table that is being built, or dropped. Locked while somebody is at it."""

    def __init__(self, path: Path, file: TextIO | None) -> None:
        self._path = path
        self._file = file

    @classmethod
    def of(cls, backend: str, table: str, options: dict[str, Any]) -> Draft:
        """Note a table. A machine without a place for notes builds all the same."""
        path = drafts_folder() / f"{table}.json"
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("w", encoding="utf-8")
            take_lock(file)
            json.dump({"backend": backend, "table": table, "options": options}, file)
            file.flush()
            return cls(path, file)
        return cls(path, None)

    def forget(self) -> None:
        """The table is a gallery's now, or is gone."""
        if self._file is not None:
            self._path.unlink(missing_ok=True)
        self.leave()

    def leave(self) -> None:
        """Let the next build drop the table, since this one cannot."""
        if self._file is not None:
            self._file.close()


def left_behind(backend: str, url: str) -> Iterator[tuple[Draft, str, dict[str, Any]]]:
    """The note, the name and the options of each table in an engine whose builder is gone."""
    folder = drafts_folder()
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else ():
        with contextlib.suppress(OSError), path.open("r", encoding="utf-8") as file:
            take_lock(file)
            try:
                note = json.load(file)
                name, options = note["table"], note["options"]
                ours = note["backend"] == backend and options["url"] == url
            except (ValueError, TypeError, KeyError):
                ours = False  # written by another version, or cut off before there was a table
            if ours:
                yield Draft(path, file), name, options
