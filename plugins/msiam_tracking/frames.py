"""The frames of a video: a folder of pictures, a sequence in an archive, or a film.

A sequence is a folder as OTB has it: pictures in ``img/``, and the true box of each frame in
``groundtruth_rect.txt``. ``otb.zip/Jumping`` is the sequence Jumping of an archive.
"""

from __future__ import annotations

import contextlib
import io
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, ImageSequence, UnidentifiedImageError

from msiam import errors

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm")
TRUTH = "groundtruth_rect.txt"

Read = Callable[[str], bytes]  # the content of a file by its name


@dataclass(frozen=True)
class Video:
    """Frames in their order, each read when it is asked for.

    Attributes:
        read: begins anew, and gives the frames one after another, in RGB.
        truth: the true box of each frame, (n, 4); NaN where it is not known. None: of none.
    """

    name: str
    read: Callable[[], Iterator[Image.Image]]
    truth: np.ndarray | None = None


def open_video(path: Path) -> Video:
    """A folder of pictures, a sequence in an archive, a GIF, or a film (which takes OpenCV).

    Raises:
        DataError: there is no such thing, or it has no frames.
    """
    if path.is_dir():
        files = {file.relative_to(path).as_posix(): file for file in path.rglob("*")}
        here = contextlib.nullcontext(lambda name: files[name].read_bytes())
        return _sequence(str(path), list(files), lambda: here)
    archive = next((parent for parent in path.parents if zipfile.is_zipfile(parent)), None)
    if archive is not None:
        return sequence_of(archive, path.relative_to(archive).as_posix())
    if zipfile.is_zipfile(path):
        known = ", ".join(sequences_of(path))
        raise errors.DataError(f"{path}: is an archive; name one of its sequences: {path}/ {known}")
    if not path.is_file():
        raise errors.DataError(f"{path}: no such file; give a film, or a folder of pictures")
    try:
        with Image.open(path):
            return Video(str(path), lambda: _pillow_frames(path))
    except UnidentifiedImageError:
        return Video(str(path), lambda: _film_frames(path))


def sequences_of(archive: Path) -> list[str]:
    """The names of an archive's sequences.

    Raises:
        DataError: it has none.
    """
    with zipfile.ZipFile(archive) as opened:
        members = map(PurePosixPath, opened.namelist())
        found = [str(member.parent) for member in members if member.name == TRUTH]
    if not found:
        raise errors.DataError(f"{archive}: has no sequence: a folder with img/ and {TRUTH}")
    return found


def sequence_of(archive: Path, name: str) -> Video:
    """One sequence of an archive.

    Raises:
        DataError: the archive has none of that name.
    """
    with zipfile.ZipFile(archive) as opened:
        inside = [m.removeprefix(f"{name}/") for m in opened.namelist() if m.startswith(f"{name}/")]
    if not inside:
        known = sequences_of(archive)
        raise errors.DataError(f"{archive}: {errors.one_of(name, known)} Found '{name}'.")

    @contextlib.contextmanager
    def opening() -> Iterator[Read]:
        with zipfile.ZipFile(archive) as opened:
            yield lambda member: opened.read(f"{name}/{member}")

    return _sequence(f"{archive}/{name}", inside, opening)


def _sequence(
    name: str, members: Sequence[str], opening: Callable[[], AbstractContextManager[Read]]
) -> Video:
    """A sequence by the names of its files. It is opened once for all of its frames."""
    frames = sorted(
        (m for m in members if m.lower().endswith(PICTURES)),
        key=lambda member: [int(n) for n in re.findall(r"\d+", PurePosixPath(member).stem)],
    )
    if not frames:
        raise errors.DataError(f"{name}: has no pictures ({', '.join(PICTURES)})")

    def pictures() -> Iterator[Image.Image]:
        with opening() as read:
            for frame in frames:
                yield Image.open(io.BytesIO(read(frame))).convert("RGB")

    if TRUTH not in members:
        return Video(name, pictures)
    with opening() as read:
        truth = read(TRUTH).decode()
    return Video(name, pictures, parse_truth(truth, f"{name}/{TRUTH}", len(frames)))


def parse_truth(text: str, name: str, frames: int) -> np.ndarray:
    """Boxes x,y,w,h, a line a frame, (frames, 4); frames beyond the last line are not known.

    Raises:
        DataError: a line is no box.
    """
    truth = np.full((frames, 4), np.nan)
    for number, line in enumerate(text.split("\n")[:frames]):
        if not line.strip():
            continue
        try:
            x, y, width, height = map(float, re.split(r"[,\s]+", line.strip()))
            truth[number] = x, y, width, height
        except ValueError:
            raise errors.DataError(
                f"{name}: line {number + 1} is {line.strip()!r:.60}; a box is x,y,w,h"
            ) from None
    return truth


def _pillow_frames(path: Path) -> Iterator[Image.Image]:
    with Image.open(path) as film:
        for frame in ImageSequence.Iterator(film):
            yield frame.convert("RGB")


def _film_frames(path: Path) -> Iterator[Image.Image]:
    try:
        import cv2
    except ImportError:
        raise errors.DataError(
            f"{path}: films are read by OpenCV: pip install 'msiam[tracking]'; or give a folder of "
            "pictures, or a GIF"
        ) from None
    film = cv2.VideoCapture(str(path))
    found, pixels = film.read()
    if not found:
        raise errors.DataError(f"{path}: OpenCV reads no frame of it; give a film or pictures")
    while found:
        yield Image.fromarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))
        found, pixels = film.read()
    film.release()
