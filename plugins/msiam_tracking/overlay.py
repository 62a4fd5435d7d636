"""What a track looks like: the frames with its boxes, and the plots of one-pass evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from msiam_tracking.geometry import Box
from msiam_tracking.metrics import ERRORS, NEAR, OVERLAPS, Track

FOUND, TRUE = (255, 70, 60), (70, 220, 90)
RATE = 25  # frames a second


def boxed(picture: Image.Image, found: Box, true: Sequence[float] | None) -> Image.Image:
    """A copy with the box that was found in red, and the truth, where it is known, in green."""
    picture = picture.copy()
    drawn = ImageDraw.Draw(picture)
    if true is not None and np.isfinite(true).all():
        drawn.rectangle(_corners(true), outline=TRUE, width=2)
    drawn.rectangle(_corners(found), outline=FOUND, width=2)
    return picture


class Overlay:
    """A film of frames with boxes: .mp4 where OpenCV is installed, else .gif.

    ``add`` frames one after another, then ``close``.
    """

    def __init__(self, folder: Path) -> None:
        try:
            import cv2
        except ImportError:
            cv2 = None
        self._cv2, self._writer = cv2, None
        self._frames: list[Image.Image] = []
        self.path = folder / ("overlay.gif" if cv2 is None else "overlay.mp4")

    def add(self, picture: Image.Image, found: Box, true: np.ndarray | None) -> None:
        """The next frame: what was found in red, and the truth, where it is known, in green."""
        picture = boxed(picture, found, None if true is None else true.tolist())
        if self._cv2 is None:
            # Few colours, so that a long film stays small.
            self._frames.append(picture.quantize(64))
            return
        if self._writer is None:
            code = self._cv2.VideoWriter_fourcc(*"mp4v")
            self._writer = self._cv2.VideoWriter(str(self.path), code, RATE, picture.size)
        self._writer.write(np.asarray(picture)[:, :, ::-1].copy())

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.release()
        elif self._frames:
            first, *others = self._frames
            first.save(
                self.path, save_all=True, append_images=others, duration=1000 // RATE, loop=0
            )


def plot(tracks: dict[str, Track], path: Path) -> None:
    """The success and the precision plot of one tracker or several, as one picture."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    success, precision = figure.subplots(1, 2)
    for name, track in tracks.items():
        success.plot(OVERLAPS, track.success, label=f"{name} [{track.auc:.3f}]")
        precision.plot(ERRORS, track.precision, label=f"{name} [{track.near:.3f}]")
    success.set(title="Success", xlabel="overlap above", ylabel="share of frames")
    precision.set(title="Precision", xlabel=f"error within, pixels [at {NEAR}]")
    for axes in (success, precision):
        axes.set_ylim(0, 1.02)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    figure.savefig(path, dpi=130)


def _corners(box: Sequence[float]) -> list[float]:
    x, y, w, h = box
    return [x, y, x + max(w, 1), y + max(h, 1)]
