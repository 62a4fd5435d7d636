"""A run's folder: which file lies where, and who may write."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from msiam.errors import RunError
from msiam.paths import is_draft, room_on_disk, take_lock


class RunFolder:
    """The names of a run's files.

    recipe.yaml as resolved, data.json (a digest of its rows), model/, metrics.json,
    calibration.json, rejected.csv, report.html; checkpoints/ and start/ (the model before its
    first step) while training is under way; .fitted/ while processes hand that over.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.recipe = self.path / "recipe.yaml"
        self.data = self.path / "data.json"
        self.model = self.path / "model"
        self.metrics = self.path / "metrics.json"
        self.calibration = self.path / "calibration.json"
        self.rejected = self.path / "rejected.csv"
        self.report = self.path / "report.html"
        self.lock = self.path / ".lock"
        self.checkpoints = self.path / "checkpoints"
        self.start = self.path / "start"
        self.fitted = self.path / ".fitted"

    @property
    def finished(self) -> bool:
        return self.metrics.is_file() and self.model.is_dir()

    def check(self, resume: bool, overwrite: bool) -> None:
        """Whether the folder is ready for a new run, or for one that goes on. Changes nothing.

        Raises:
            RunError: a run is there already and neither ``resume`` nor ``overwrite`` is asked for;
                there is nothing to resume.
        """
        if resume:
            if not self.recipe.is_file():
                raise RunError(
                    f"{self.path}: holds no run to resume; leave --resume out to begin one"
                )
            return
        if self.recipe.is_file():
            if not overwrite:
                state = "a finished run" if self.finished else "an unfinished run"
                raise RunError(
                    f"{self.path}: holds {state}; go on with --resume, begin again with "
                    "--overwrite, or give another folder with --out (in Python: resume=True, "
                    "overwrite=True, folder=...)"
                )
        elif any(
            path not in (self.lock, self.rejected, self.fitted, self.data) and not is_draft(path)
            for path in self.path.iterdir()
        ):
            raise RunError(
                f"{self.path}: holds something that is no run; give an empty "
                "folder with --out (in Python: folder=...)"
            )

    def clear(self) -> None:
        """Remove an old run, all but its list of rejected rows, which the new one has written."""
        drafts = [path for path in self.path.iterdir() if is_draft(path)]  # files, and a model's
        for path in (self.checkpoints, self.start, self.model, *drafts):
            shutil.rmtree(path, ignore_errors=True)
        known = (self.metrics, self.calibration, self.report, self.recipe, self.data)
        for path in (*known, *drafts):
            path.unlink(missing_ok=True)

    def tidy(self) -> None:
        """Remove what only an unfinished run needs."""
        for path in (self.checkpoints, self.start):
            shutil.rmtree(path, ignore_errors=True)

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the folder: one process writes at a time. The lock goes with the process.

        Raises:
            RunError: another process is writing, the folder may not be written, or the disk is
                full.
        """
        new = not self.path.exists()
        with room_on_disk(self.path), self._opened_lock() as lock:
            try:
                take_lock(lock)
            except BlockingIOError as error:
                raise RunError(
                    f"{self.path}: another process is writing this run; wait for it, or give "
                    "another folder with --out"
                ) from error
            try:
                yield
            finally:
                self._leave_nothing(new)

    def _leave_nothing(self, new: bool) -> None:
        """Where nothing was begun, remove the lock, and the folder if it is ``new``."""
        if list(self.path.iterdir()) != [self.lock]:
            return
        self.lock.unlink()
        if new:
            with contextlib.suppress(OSError):  # another process has begun there
                self.path.rmdir()

    def _opened_lock(self) -> TextIO:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            return self.lock.open("w")
        except (PermissionError, FileExistsError, NotADirectoryError) as error:
            raise RunError(
                f"{self.path}: is no folder that can be written ({error.strerror}); give another "
                "with --out"
            ) from error
