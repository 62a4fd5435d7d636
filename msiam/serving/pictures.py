"""The pictures of records: files below the folder that the gallery's table came from."""

from __future__ import annotations

from pathlib import Path

from fastapi.responses import FileResponse
from PIL import Image

from msiam.serving.items import FORMATS
from msiam.serving.problems import ProblemError

MISSING = "this record has no picture here"


def picture_file(root: Path | None, name: object) -> tuple[Path, str]:
    """The file of a record's picture and its media type.

    A client names a record, never a file; and a record that names a file elsewhere, or one that is
    no picture, has none.

    Raises:
        ProblemError: 404, there is none.
    """
    if root is None or not isinstance(name, str) or not name or "\0" in name:
        raise ProblemError(404, MISSING)
    base = root.resolve()
    try:
        path = (base / name).resolve()
        if not path.is_relative_to(base) or not path.is_file():
            raise ProblemError(404, MISSING)
        with Image.open(path, formats=FORMATS) as image:  # the header alone
            media_type = image.get_format_mimetype()
    except ProblemError:
        raise
    except Exception:  # a name too long, a loop of links, a broken file
        raise ProblemError(404, MISSING) from None
    if media_type is None:
        raise ProblemError(404, MISSING)
    return path, media_type


def picture_response(root: Path | None, name: object) -> FileResponse:
    path, media_type = picture_file(root, name)
    return FileResponse(path, media_type=media_type, headers={"Cache-Control": "private, no-cache"})
