"""One-pass evaluation: how well the boxes of a track agree with the true ones.

Wu, Lim and Yang, "Online Object Tracking: A Benchmark" (2013).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: Overlaps from which on a frame is a success, and errors in pixels up to which it is precise.
OVERLAPS = np.linspace(0, 1, 21)
ERRORS = np.arange(51)
NEAR = 20  # the error at which precision is read off


@dataclass(frozen=True)
class Track:
    """What one pass over a sequence reached.

    Attributes:
        success: (21,) by overlap, the share of frames with a larger one.
        precision: (51,) by error in pixels, the share of frames whose middle is within it.
    """

    success: np.ndarray
    precision: np.ndarray

    @property
    def auc(self) -> float:
        """The area under the success plot: its mean."""
        return float(self.success.mean())

    @property
    def near(self) -> float:
        """The share of frames whose middle is within 20 pixels."""
        return float(self.precision[NEAR])


def overlaps(boxes: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Intersection over union of (n, 4) boxes with (n, 4) others, (n,); without area it is 0."""
    corner = np.maximum(boxes[:, :2], truth[:, :2])
    opposite = np.minimum(boxes[:, :2] + boxes[:, 2:], truth[:, :2] + truth[:, 2:])
    shared = np.clip(opposite - corner, 0, None).prod(axis=1)
    union = boxes[:, 2:].prod(axis=1) + truth[:, 2:].prod(axis=1) - shared
    return np.divide(shared, union, out=np.zeros(len(boxes)), where=union > 0)


def errors(boxes: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """How far apart the middles of (n, 4) boxes and (n, 4) others are, in pixels, (n,)."""
    apart = boxes[:, :2] + boxes[:, 2:] / 2 - truth[:, :2] - truth[:, 2:] / 2
    return np.hypot(*apart.T)


def measure(boxes: np.ndarray, truth: np.ndarray) -> Track:
    """The success and precision plots of one pass.

    A frame whose true box is not known (NaN) is left out. As in OTB, the first frame counts.
    """
    known = np.isfinite(truth).all(axis=1)
    boxes, truth = boxes[known], truth[known]
    shared, apart = overlaps(boxes, truth), errors(boxes, truth)
    return Track(
        (shared[:, None] > OVERLAPS).mean(axis=0),
        (apart[:, None] <= ERRORS).mean(axis=0),
    )
