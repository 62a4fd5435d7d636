"""Following one target from frame to frame, by its first appearance alone.

Bertinetto et al. (2016), section 2.3 and its supplement: SiamFC with three scales, without update.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from msiam import Model, errors
from msiam_tracking.encoder import SiamFC
from msiam_tracking.geometry import (
    EXEMPLAR,
    SCORES,
    SEARCH,
    STRIDE,
    Box,
    centre,
    crop,
    exemplar_side,
    search_side,
)
from msiam_tracking.loss import correlate

FINER = 16  # times as many scores as the network gives, by bicubic interpolation


@dataclass(frozen=True)
class Settings:
    """How a target may move, as the paper has it.

    Attributes:
        step: factor from one of the three sizes that are tried to the next.
        penalty: what the score of another size than the last is multiplied by.
        damping: how far the size goes towards the one that scored best.
        window: weight of a cosine window round the last place, against large leaps.
    """

    step: float = 1.0375
    penalty: float = 0.9745
    damping: float = 0.59
    window: float = 0.176


class Tracker:
    """A target's first appearance, and where it was last.

    Args:
        picture: the first frame.
        box: the target in it, (x, y, w, h).

    Raises:
        ModelError: no tower of the model keeps feature maps, as encoder siamfc does.
    """

    def __init__(
        self, model: Model, picture: Image.Image, box: Box, settings: Settings | None = None
    ) -> None:
        self.encoder = map_encoder(model)
        self.settings = settings or Settings()
        self.middle = centre(box)
        self.first = self.size = np.array(box[2:], float)
        exemplar = crop(picture, self.middle, exemplar_side(*self.size), EXEMPLAR)
        self.exemplar = self._maps([exemplar])
        window = torch.hann_window(FINER * SCORES, periodic=False)
        self.window = torch.outer(window, window) / window.sum() ** 2

    @property
    def box(self) -> Box:
        """The target in the last frame, (x, y, w, h)."""
        (x, y), (w, h) = self.middle, self.size.tolist()
        return x - w / 2, y - h / 2, w, h

    def step(self, picture: Image.Image) -> Box:
        """Find the target in the next frame."""
        settings = self.settings
        side = search_side(*self.size)
        scales = settings.step ** np.arange(-1, 2)
        regions = [crop(picture, self.middle, side * scale, SEARCH) for scale in scales]
        scores = correlate(self.exemplar.expand(len(scales), -1, -1, -1), self._maps(regions))
        scores = F.interpolate(scores[:, None], scale_factor=FINER, mode="bicubic")[:, 0].cpu()
        scores = scores - scores.min()
        best = scores.flatten(1).max(1).values
        best[[0, 2]] *= settings.penalty
        size = int(best.argmax())
        place = placed(scores[size], self.window, settings.window)
        pixels = side * scales[size] / SEARCH  # of the frame, to one of the region
        x, y = (self.middle + place * pixels).tolist()
        self.middle = min(max(x, 0.0), picture.width), min(max(y, 0.0), picture.height)
        grown = self.size * (1 + settings.damping * (scales[size] - 1))
        self.size = np.clip(grown, 0.2 * self.first, 5 * self.first)
        return self.box

    @torch.inference_mode()
    def _maps(self, crops: list[Image.Image]) -> Tensor:
        device = next(self.encoder.parameters()).device
        pixels = torch.from_numpy(np.stack([np.asarray(one) for one in crops]))
        return self.encoder.maps(pixels.to(device))


def placed(scores: Tensor, window: Tensor, weight: float) -> np.ndarray:
    """How far the highest score is from the middle, (x, y) in pixels of the search region."""
    scores = scores - scores.min()
    scores = (1 - weight) * scores / scores.sum().clamp(min=1e-12) + weight * window
    row, column = divmod(int(scores.argmax()), scores.shape[1])
    return (np.array([column, row]) - (len(scores) - 1) / 2) * STRIDE / FINER


def map_encoder(model: Model) -> SiamFC:
    """The encoder of a model that keeps feature maps, ready to be used.

    Raises:
        ModelError: there is none.
    """
    for encoder in model.encoders.values():
        if isinstance(encoder, SiamFC):
            return encoder.eval()
    found = ", ".join(type(encoder).__name__ for encoder in model.encoders.values())
    raise errors.ModelError(
        f"the model has no tower with encoder: siamfc, by which targets are tracked; found {found}"
    )
