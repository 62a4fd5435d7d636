"""The right to write a gallery's folder, and the step that makes new files the gallery.

The manifest is the commit point. A writer puts new files beside the old ones, under names of
their own, and then replaces the manifest in one step. Whoever reads follows the manifest and so
sees the old gallery or the new one, whole, whenever the writer may be stopped.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path

from msiam.errors import GalleryError, PluginError
from msiam.gallery.backend import Backend
from msiam.gallery.manifest import MANIFEST, Manifest
from msiam.paths import room_on_disk, take_lock, write_text
from msiam.registry.registry import registry

LOCK = ".lock"
_OURS = re.compile(
    r"(?P<kind>catalogue|index|vectors|dead)-[0-9a-f]{8}\.(?P<suffix>\w+)"
    rf"|\.{re.escape(MANIFEST)}\.\d+\.draft"
)


def commit(folder: Path, manifest: Manifest) -> None:
    """Make the files that the manifest names the gallery, in one step."""
    _sync(folder)
    write_text(folder / MANIFEST, manifest.text())
    _sync(folder)


@contextlib.contextmanager
def writing(folder: Path, wait: bool = False) -> Iterator[None]:
    """Be the one writer of a gallery's folder; leave no file behind that its manifest omits.

    Args:
        wait: for another process that is writing it, instead of giving up.

    Raises:
        GalleryError: another process writes it, it holds something else, it cannot be written.
        RunError: the disk is full. The gallery is then as it was before.
    """
    try:
        _refuse_others(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):  # the lock may be writable all the same
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        lock = (folder / LOCK).open("a")
    except OSError as error:
        raise GalleryError(f"{folder}: cannot be written ({error.strerror})") from error
    with lock, room_on_disk(folder):
        try:
            if wait:
                fcntl.flock(lock, fcntl.LOCK_EX)
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
        keep = {stored.name for stored in manifest.files}
    for path in folder.iterdir():
        ours = _OURS.fullmatch(path.name)
        if ours is None or path.name in keep:
            continue
        if ours["kind"] == "index":
            try:
                kind: type[Backend] = registry().find("backend", ours["suffix"]).load()
            except PluginError:
                continue  # without its plugin, nobody knows what the file stands for
            kind.discard(path)
        path.unlink()


def _sync(folder: Path) -> None:
    """Put the folder's entries, not only its files, safely on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
