"""The pictures of records: files below the folder that the gallery's table came from.

They are the user's own, and yet a client names only a record, and a record may name anything: what
is elsewhere, or no picture, is not served.
"""

from __future__ import annotations

import functools
import io
import zipfile
from pathlib import Path

from PIL import Image

from msiam.evaluation.pictures import thumbnail
from msiam.serving.items import FORMATS, checked_picture
from msiam.serving.problems import ProblemError

LARGEST = 64 * 2**20  # bytes of a picture's file
#: What a browser shows. Of any other format it gets a thumbnail only.
SHOWN = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "GIF": "image/gif"}


def picture_of(root: Path | None, name: object, side: int, most_pixels: int) -> tuple[bytes, str]:
    """A record's picture, as a file's bytes and their media type, no side longer than ``side``.

    Args:
        root: the folder beyond which nothing is served.
        name: what the record has in the picture's column: a path, as seen from the root. It may
            lead into a zip archive (photos.zip/1.jpg).

    Raises:
        ProblemError: 404, there is none.
    """
    try:
        raw = _read(root, name)
        if raw is not None:
            checked_picture(raw, most_pixels)
            with Image.open(io.BytesIO(raw), formats=FORMATS) as image:  # the header alone
                media_type = SHOWN.get(image.format or "")
                if media_type and max(image.size) <= side:
                    return raw, media_type
            kind, small, _ = thumbnail(raw, side)
            return small, f"image/{kind}"
    except Exception:  # a name too long, a loop of links, a broken file; whatever it is, none
        pass
    raise ProblemError(404, "this record has no picture here")


def _read(root: Path | None, name: object) -> bytes | None:
    if root is None or not isinstance(name, str) or not name or "\0" in name:
        return None
    base = root.resolve()
    path = (base / name).resolve()
    if not path.is_relative_to(base):
        return None
    if path.is_file():
        return path.read_bytes() if path.stat().st_size <= LARGEST else None
    archive = next((parent for parent in path.parents if parent.is_file()), None)
    if archive is None or not archive.is_relative_to(base):
        return None
    opened = _opened(archive, archive.stat().st_mtime_ns)
    member = opened.getinfo(path.relative_to(archive).as_posix())
    return opened.read(member) if member.file_size <= LARGEST else None


@functools.lru_cache(maxsize=4)
def _opened(archive: Path, written: int) -> zipfile.ZipFile:
    """An archive, opened once: its list of members takes longer to read than a picture."""
    return zipfile.ZipFile(archive)
