"""A file of a gallery: how long it was and what stood in it, so that damage is noticed."""

from __future__ import annotations

import hashlib
import os
from io import BufferedReader
from pathlib import Path

import pydantic

from msiam.errors import GalleryError
from msiam.paths import sha256

REMEDY = "copy the gallery again, or make it again with msiam index"
#: A file of up to this size is read whole when it is opened; of a longer one, a sample.
WHOLE = 64 << 20
BLOCKS, BLOCK = 64, 256 << 10


class Stored(pydantic.BaseModel, frozen=True, extra="forbid"):
    """One file of a gallery, as it was written.

    Attributes:
        sha256: of the whole file.
        sample: of what is looked at whenever it is opened: all of it up to 64 MiB; of a longer
            one its head, its tail and 62 blocks between, 16 MiB in all.
    """

    name: str
    size: int
    sha256: str
    sample: str

    @classmethod
    def of(cls, path: Path) -> Stored:
        """Put a file that was written safely on the disk, and measure it."""
        with path.open("rb") as file:
            os.fsync(file.fileno())
            size = os.fstat(file.fileno()).st_size
            sample = _sample(file, size)
        return cls(name=path.name, size=size, sha256=sha256(path), sample=sample)

    def check(self, folder: Path, whole: bool = False) -> Path:
        """The file's path, if it is as it was written.

        Args:
            whole: read all of it, however long it is.

        Raises:
            GalleryError: it is cut off or has changed.
            FileNotFoundError: it is not there.
        """
        path = folder / self.name
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size != self.size:
                raise GalleryError(f"{path}: has {size} bytes and had {self.size}; {REMEDY}")
            same = _sample(file, size) == self.sample
        if not same or (whole and sha256(path) != self.sha256):
            raise GalleryError(f"{path}: has changed since it was written; {REMEDY}")
        return path


def _sample(file: BufferedReader, size: int) -> str:
    file.seek(0)
    if size <= WHOLE:
        return hashlib.file_digest(file, "sha256").hexdigest()
    digest = hashlib.sha256()
    for number in range(BLOCKS):
        file.seek(number * (size - BLOCK) // (BLOCKS - 1))
        digest.update(file.read(BLOCK))
    return digest.hexdigest()
