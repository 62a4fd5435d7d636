"""A gallery's manifest: which files are the gallery, and what it is."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pydantic

from msiam.errors import GalleryError
from msiam.gallery.stored import REMEDY, Stored

MANIFEST = "manifest.json"
FORMAT = 2


class SegmentFiles(pydantic.BaseModel, frozen=True, extra="forbid"):
    """Records that were written together. A file, once written, never changes.

    Attributes:
        count: how many records, with those that were removed since.
        alive: how many, without them.
        options: the backend's, for this index.
        vectors: the raw ones, where the index does not give them back.
        dead: the positions of the records that were removed since; None: none.
    """

    count: int
    alive: int
    options: dict[str, Any]
    catalogue: Stored
    index: Stored
    vectors: Stored | None = None
    dead: Stored | None = None

    @property
    def files(self) -> list[Stored]:
        """All of its files."""
        found = (self.catalogue, self.index, self.vectors, self.dead)
        return [stored for stored in found if stored is not None]


class Manifest(pydantic.BaseModel, frozen=True, extra="forbid"):
    """What a gallery is. Paths are relative to its folder where that is possible.

    Attributes:
        count: how many records, without those that were removed.
        options: the backend's; a segment of few records may have others.
    """

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
    segments: list[SegmentFiles]

    @property
    def files(self) -> list[Stored]:
        """The files of all segments."""
        return [stored for segment in self.segments for stored in segment.files]

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
            GalleryError: there is none, it is damaged, or another version of msiam wrote it.
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
