"""Reading pictures, and preparing them: any picture in, a square of 8-bit pixels out."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from msiam import Rejected

Fit = Literal["crop", "pad", "stretch"]

#: What is opened. Left out are the vector formats: Pillow runs Ghostscript for EPS.
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000", "ICO")
SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib"),
    *(".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".jp2", ".j2k", ".jpx", ".ico"),
)
MOST_PIXELS = 89_478_485  # as many as Pillow opens without a warning: a quarter of a GB in RGB
ORIENTATION = 0x0112  # the EXIF tag
THREADS = min(8, os.cpu_count() or 1)

Image.init()
_FORMATS = tuple(name for name in FORMATS if name in Image.OPEN)  # AVIF is not in every build


class UnreadableError(Exception):
    """A picture that cannot be read; says why."""


def accepts(item: object) -> bool:
    """Whether the item is a picture, holds the bytes of one or names a file that may be one."""
    if isinstance(item, dict):
        return set(item) == {"bytes", "path"}
    if isinstance(item, str):
        return Path(item).suffix.lower() in SUFFIXES or _is_file(item)
    return isinstance(item, Image.Image | np.ndarray | bytes | Path)


def prepare(
    items: Sequence[Any], side: int, fit: Fit, channels: int
) -> list[np.ndarray | Rejected]:
    """Items to arrays of (side, side, channels) uint8, or ``Rejected``, in the items' order.

    Pixels come last but for their channels, as they lie in the file: a stack of such arrays is
    a batch in "channels last" without a copy.
    """

    def one(item: Any) -> np.ndarray | Rejected:
        try:
            return fitted(read(item, 2 * side), side, fit, channels)
        except UnreadableError as error:
            return Rejected(str(error))

    # A picture that is open already may be in the list twice, and loads itself when first used.
    if len(items) < 2 or any(isinstance(item, Image.Image) for item in items):
        return [one(item) for item in items]
    with ThreadPoolExecutor(min(THREADS, len(items))) as pool:
        return list(pool.map(one, items))


def read(item: Any, enough: int | None = None) -> Image.Image:
    """The item as an upright picture in RGB or L; what is transparent becomes white.

    Args:
        item: a picture, its pixels as uint8 (H, W) or (H, W, 1, 3 or 4), its file's bytes or
            path, or {"bytes", "path"}.
        enough: a JPEG may come smaller than it is, if its shorter side keeps so many pixels.

    Raises:
        UnreadableError: it is no picture, is broken, or has too many pixels.
    """
    try:
        if isinstance(item, np.ndarray):
            return _flat(_from_pixels(item))
        if isinstance(item, Image.Image):
            return _flat(_loaded(item, None))
        with Image.open(_file(item), formats=_FORMATS) as image:
            return _flat(_loaded(image, enough))
    except UnreadableError:
        raise
    except UnidentifiedImageError:
        raise UnreadableError(f"not a picture ({', '.join(_FORMATS)})") from None
    except Image.DecompressionBombError:
        raise UnreadableError(f"more than {MOST_PIXELS:,} pixels") from None
    except FileNotFoundError:
        raise UnreadableError(
            f"no such file: {item['path'] if isinstance(item, dict) else item}"
        ) from None
    except Exception as error:  # Pillow's readers raise nearly anything on a broken file
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UnreadableError(f"broken picture: {reason}") from error


def fitted(image: Image.Image, side: int, fit: Fit, channels: int) -> np.ndarray:
    """The picture as (side, side, channels) uint8: its middle, all of it on white, or stretched."""
    width, height = image.size
    box = (0.0, 0.0, float(width), float(height))
    if fit == "crop":
        edge = min(width, height)
        left, top = (width - edge) / 2, (height - edge) / 2
        box = (left, top, left + edge, top + edge)
    size = (side, side)
    if fit == "pad":
        scale = side / max(width, height)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
    image = image.resize(size, Image.Resampling.BICUBIC, box=box, reducing_gap=2.0)
    image = image.convert("RGB" if channels == 3 else "L")
    if size != (side, side):
        canvas = Image.new(image.mode, (side, side), "white")
        canvas.paste(image, ((side - size[0]) // 2, (side - size[1]) // 2))
        image = canvas
    return np.array(image).reshape(side, side, channels)


def _is_file(name: str) -> bool:
    try:
        return Path(name).is_file()
    except (OSError, ValueError):  # a long text is no file's name
        return False


def _file(item: Any) -> io.BytesIO | Path:
    if isinstance(item, dict):
        item = item.get("bytes") or item.get("path")
    if isinstance(item, bytes) and item:
        return io.BytesIO(item)
    if isinstance(item, str | Path) and str(item):
        return Path(item)
    raise UnreadableError("no picture: neither bytes nor a path")


def _from_pixels(pixels: np.ndarray) -> Image.Image:
    shape_is_right = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (1, 3, 4))
    if pixels.dtype != np.uint8 or not shape_is_right or 0 in pixels.shape:
        shape = " × ".join(str(length) for length in pixels.shape)
        raise UnreadableError(
            f"pixels are {shape} {pixels.dtype}; right is uint8, height × width (× 1, 3 or 4)"
        )
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2:] == (1,) else pixels)


def _loaded(image: Image.Image, enough: int | None) -> Image.Image:
    """The picture with its pixels read, turned as its EXIF says."""
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise UnreadableError(f"{width} × {height} pixels, more than {MOST_PIXELS:,}")
    if enough is not None and width and height:
        scale = enough / min(width, height)
        image.draft(None, (round(width * scale), round(height * scale)))  # JPEG: up to 8× less work
    image.load()
    if image.getexif().get(ORIENTATION, 1) != 1:
        return ImageOps.exif_transpose(image)
    return image


def _flat(image: Image.Image) -> Image.Image:
    """Any mode to RGB or L, transparent parts over white."""
    if image.mode.startswith("I"):  # 16 bits of grey; a plain conversion would clip them to 8
        grey = np.asarray(image).clip(0, 0xFFFF)
        if image.mode != "I" or grey.max(initial=0) > 0xFF:  # "I" may hold 8 bits as well
            grey = grey >> 8
        return Image.fromarray(grey.astype(np.uint8))
    if image.mode == "F":
        raise UnreadableError("its pixels are floating-point numbers; right is 8 or 16 bits")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image.convert("RGBA"))
        image = white
    return image if image.mode in ("RGB", "L") else image.convert("RGB")
