"""A gallery's folder: the manifest that makes its files one gallery, and the right to write it.

The manifest is the commit point. A writer puts new files beside the old ones, under names of
their own, and then replaces the manifest in one step. Whoever reads follows the manifest and so
sees the old gallery or the new one, whole, whenever the writer may be stopped.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydantic

from msiam.errors import GalleryError
from msiam.paths import room_on_disk, sha256, take_lock, write_text

MANIFEST = "manifest.json"
FORMAT = 1
LOCK = ".lock"
REMEDY = "copy the gallery again, or make it again with msiam index"
_OURS = re.compile(rf"(catalogue|index)-[0-9a-f]{{8}}\.\w+|\.{re.escape(MANIFEST)}\.\d+\.draft")


class Stored(pydantic.BaseModel, frozen=True, extra="forbid"):
    """One file of a gallery, as it was written."""

    name: str
    size: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> Stored:
        """Put a file that was written safely on the disk, and measure it."""
        with path.open("rb+") as file:
            os.fsync(file.fileno())
        return cls(name=path.name, size=path.stat().st_size, sha256=sha256(path))

    def check(self, folder: Path) -> Path:
        """The file's path, if it is as it was written.

        Raises:
            GalleryError: it is cut off or has changed.
            FileNotFoundError: it is not there.
        """
        path = folder / self.name
        size = path.stat().st_size
        if size != self.size:
            raise GalleryError(f"{path}: has {size} bytes and had {self.size}; {REMEDY}")
        if sha256(path) != self.sha256:
            raise GalleryError(f"{path}: has changed since it was written; {REMEDY}")
        return path


class Manifest(pydantic.BaseModel, frozen=True, extra="forbid"):
    """What a gallery is. Paths are relative to its folder where that is possible."""

    format: int = FORMAT
    created: str
    count: int
    dim: int
    column: str
    id: str | None
    backend: str
    options: dict[str, Any]
    fingerprint: str
    run: str | None
    table: str
    root: str | None
    catalogue: Stored
    index: Stored

    def text(self) -> str:
        """The manifest as it is written: JSON, with a checksum of its own as the last key."""
        content = self.model_dump()
        body = json.dumps(content, indent=1)
        content["checksum"] = hashlib.sha256(body.encode()).hexdigest()
        return json.dumps(content, indent=1) + "\n"

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read and check a folder's manifest.

        Raises:
            GalleryError: there is none, it is damaged, or a newer msiam wrote it.
        """
        path = folder / MANIFEST
        try:
            raw = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError) as error:
            what = f"has no {MANIFEST}" if folder.is_dir() else "there is no such folder"
            raise GalleryError(
                f"{folder}: is no gallery, {what}; make one with msiam index"
            ) from error
        except OSError as error:
            raise GalleryError(f"{path}: cannot be read ({error.strerror})") from error
        try:
            content = json.loads(raw.decode())
            found = content["format"]
            if found == FORMAT:
                content.pop("checksum")
                manifest = cls.model_validate(content)
                if manifest.text().encode() == raw:
                    return manifest
        except (ValueError, TypeError, KeyError) as error:
            raise GalleryError(f"{path}: is damaged; {REMEDY}") from error
        if found == FORMAT:
            raise GalleryError(f"{path}: has changed since it was written; {REMEDY}")
        raise GalleryError(f"{path}: format {found!r}; this msiam reads format {FORMAT}")


def commit(folder: Path, manifest: Manifest) -> None:
    """Make the files that the manifest names the gallery, in one step."""
    _sync(folder)
    write_text(folder / MANIFEST, manifest.text())
    _sync(folder)


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Be the one writer of a gallery's folder; leave no file behind that its manifest omits.

    Raises:
        GalleryError: another process writes it, it holds something else, it cannot be written.
        RunError: the disk is full. The gallery is then as it was before.
    """
    try:
        _refuse_others(folder)
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / LOCK).open("a")
    except OSError as error:
        raise GalleryError(f"{folder}: cannot be written ({error.strerror})") from error
    with lock, room_on_disk(folder):
        try:
            take_lock(lock)
        except BlockingIOError as error:
            raise GalleryError(
                f"{folder}: another process is writing this gallery; run this again when it is done"
            ) from error
        try:
            _sweep(folder)
            yield
        finally:
            _sweep(folder)
            # Said aloud, since a worker process that was forked meanwhile holds the file open.
            fcntl.flock(lock, fcntl.LOCK_UN)


def _refuse_others(folder: Path) -> None:
    """Never write among somebody else's files, of which one may be called manifest.json."""
    if (folder / "recipe.yaml").exists() or (folder / "model").exists():  # a run has a .lock too
        raise GalleryError(f"{folder}: holds a run; give another folder, like {folder / 'gallery'}")
    if not folder.is_dir() or (folder / LOCK).exists():
        return
    others = sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))
    if others:
        try:
            Manifest.read(folder)
        except GalleryError as error:
            raise GalleryError(
                f"{folder}: holds '{others[0]}' and is no gallery; give a new or an empty folder"
            ) from error


def _sweep(folder: Path) -> None:
    """Remove the drafts that a killed writer left, and the files of the last generation."""
    keep: set[str] = set()
    if (folder / MANIFEST).exists():
        try:
            manifest = Manifest.read(folder)
        except GalleryError:  # it may yet be mended by hand: the next commit replaces it
            return
        keep = {manifest.catalogue.name, manifest.index.name}
    for path in folder.iterdir():
        if _OURS.fullmatch(path.name) and path.name not in keep:
            path.unlink()


def _sync(folder: Path) -> None:
    """Put the folder's entries, not only its files, safely on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
