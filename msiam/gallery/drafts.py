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
from typing import Any

from msiam.paths import take_lock


def drafts_folder() -> Path:
    """Where the notes are: ``XDG_STATE_HOME``, which is ``~/.local/state`` unless it is set."""
    place = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(place).expanduser() / "msiam" / "tables"


class Draft:
    """The note of one table that is being built. Locked until it is forgotten."""

    def __init__(self, backend: str, table: str, options: dict[str, Any]) -> None:
        self._path = drafts_folder() / f"{table}.json"
        self._file = None
        # A machine without a place for notes builds all the same.
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("w", encoding="utf-8")
            take_lock(self._file)
            json.dump({"backend": backend, "table": table, "options": options}, self._file)
            self._file.flush()

    def forget(self) -> None:
        """The table is a gallery's now, or is gone."""
        if self._file is not None:
            self._path.unlink(missing_ok=True)
        self.leave()

    def leave(self) -> None:
        """Let the next build drop the table, since this one cannot."""
        if self._file is not None:
            self._file.close()


def left_behind(backend: str, url: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The name and options of each table whose builder is gone.

    A note is removed once its table has been dealt with, and stays if that raises.
    """
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
                yield name, options
                path.unlink(missing_ok=True)
