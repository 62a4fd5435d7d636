"""Any raw item as a piece of HTML: a text, escaped, or a picture, made small and put inline."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from markupsafe import Markup
    from PIL import Image

SIDE = 320  # pixels of a thumbnail's longer side; it is shown at half of that, for fine screens
SMALL = 96  # pixels of the longer side that a smaller picture is enlarged to
LONG = 280  # characters of a text that are shown at once


def show(item: Any) -> Markup:
    """An item as HTML.

    A picture is a {"bytes", "path"} dict, bytes, a PIL image, a path, or a string that names a
    file which is there and which Pillow knows. Anything else is shown as text, never as markup. A
    picture that cannot be opened is named with the reason: a report does not fail for one item.
    """
    if is_picture(item):
        return _picture(item)
    return _text(item if isinstance(item, str) else str(item))


def show_words(effects: Sequence[tuple[str, float]]) -> Markup:
    """A text as HTML, each word on a ground as strong as what it adds, and of another colour where
    the text would match better without it.
    """
    from markupsafe import Markup

    most = max((abs(effect) for _, effect in effects), default=0) or 1
    words = [
        Markup('<span class="{}" style="--s:{:.0f}%" title="{:+.3f}">{}</span>').format(
            "adds" if effect > 0 else "takes", 60 * abs(effect) / most, effect, word
        )
        for word, effect in effects
    ]
    return Markup('<p class="text words">{}</p>').format(Markup(" ").join(words))


def from_pixels(pixels: np.ndarray) -> Image.Image:
    """(H, W, 1 or 3) from 0 to 255, whole or not, as a picture."""
    from PIL import Image

    whole = np.rint(pixels).clip(0, 255).astype(np.uint8)
    return Image.fromarray(whole[:, :, 0] if whole.shape[2] == 1 else whole)


def is_picture(item: Any) -> bool:
    """Whether ``show`` takes an item for a picture."""
    if isinstance(item, str):
        return len(item) < 1024 and _names_picture(item)
    if isinstance(item, dict):
        return item.keys() == {"bytes", "path"}
    return isinstance(item, bytes | Path) or hasattr(item, "thumbnail")


def _names_picture(name: str) -> bool:
    """Whether it is a picture's file, by its first bytes: an encoder reads more than one suffix."""
    from PIL import Image

    try:
        if Path(name).is_file():
            with Image.open(name):
                return True
    except Exception:  # whatever stops Pillow: a report shows it as a text
        return False
    return False


def _text(text: str) -> Markup:
    from markupsafe import Markup

    if len(text) <= LONG:
        return Markup('<p class="text">{}</p>').format(text)
    cut = text[:LONG].rsplit(maxsplit=1)[0] or text[:LONG]
    return Markup(
        '<details class="text"><summary><span class="cut">{} … </span></summary>'
        '<p class="text">{}</p></details>'
    ).format(cut, text)


def _picture(item: Any) -> Markup:
    from markupsafe import Markup

    try:
        kind, data, (width, height) = thumbnail(item)
    except Exception as error:  # Pillow's readers raise nearly anything on broken files
        return Markup('<p class="text missing">This picture cannot be shown: {}</p>').format(error)
    longer = max(width, height)
    scale = max(SMALL, min(SIDE // 2, longer)) / longer
    return Markup(
        '<img src="data:image/{};base64,{}" width="{}" height="{}" alt="" loading="lazy">'
    ).format(
        kind,
        base64.b64encode(data).decode(),
        max(1, round(width * scale)),
        max(1, round(height * scale)),
    )


def thumbnail(item: Any, side: int = SIDE) -> tuple[str, bytes, tuple[int, int]]:
    """The picture's format, its bytes and its size, no side longer than ``side``."""
    from PIL import ImageOps

    image = ImageOps.exif_transpose(_open(item))
    image.thumbnail((side, side))
    clear = image.has_transparency_data
    image = image.convert("RGBA" if clear else "RGB")
    kind = "png" if clear or max(image.size) <= SMALL else "jpeg"
    buffer = io.BytesIO()
    image.save(buffer, kind, quality=85, optimize=True)
    return kind, buffer.getvalue(), image.size


def _open(item: Any) -> Image.Image:
    from PIL import Image

    if isinstance(item, dict):
        item = item["bytes"] if item["bytes"] is not None else item["path"]
    if isinstance(item, bytes):
        return Image.open(io.BytesIO(item))
    if isinstance(item, str | Path):
        return Image.open(item)
    return item.copy()
