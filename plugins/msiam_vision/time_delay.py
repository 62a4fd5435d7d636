"""The network of the first siamese one: time-delay layers over a signature, from left to right."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from msiam_vision import images
from msiam_vision.image_encoder import FreshEncoder, FreshOptions

STEP = 3  # time steps that a window moves on
FIRST, SECOND = (12, 11), (16, 10)  # the features of a layer, and the steps that each one sees


class TimeDelayOptions(FreshOptions):
    """The options of time_delay."""

    size: int = Field(200, ge=38, le=1024, description="columns that are read: the time steps")
    fit: images.Fit = Field("stretch", description="how a picture becomes square")
    channels: Literal[1, 3] = Field(1, description="3 for colour, 1 for grey")
    bands: int = Field(8, gt=0, le=1024, description="numbers that a column of a channel gives")


class TimeDelay(FreshEncoder):
    """Two layers of windows that slide over time, each unit seeing all features of its window.

    As in the paper: 8 numbers at each of 200 steps; 12 features, windows of 11 steps, which leaves
    64; 16 features, windows of 10, which leaves 19; windows move on by 3 steps, and one that moves
    has the same weights. The output keeps its 19 steps: d = 16 · 19 = 304, compared by the cosine.

    Not as in the paper: there the time is that of a pen on a tablet, and the 8 numbers are its
    place, speed, accelerations, direction, curvature, and whether it is down. A picture has none
    of them. Here time runs from left to right, and a column gives the mean of each of 8 ``bands``,
    from top to bottom. Units are tanh. Loss and training are the recipe's.

    Paper: Bromley, Guyon, LeCun, Säckinger and Shah, Signature Verification using a "Siamese" Time
    Delay Neural Network, NIPS 1993.
    """

    Options = TimeDelayOptions

    @property
    def dim(self) -> int:
        steps = self.options.size
        for _, window in (FIRST, SECOND):
            steps = (steps - window) // STEP + 1
        return SECOND[0] * steps

    def build(self) -> nn.Module:
        layers: list[nn.Module] = [Columns(self.options.bands)]
        before = self.channels * self.options.bands
        for features, window in (FIRST, SECOND):
            layers += [nn.Conv1d(before, features, window, STEP), nn.Tanh()]
            before = features
        return nn.Sequential(*layers, nn.Flatten())


class Columns(nn.Module):
    """Pictures (B, C, H, W) to (B, C · bands, W): of each column, the mean of each band."""

    def __init__(self, bands: int) -> None:
        super().__init__()
        self.bands = bands

    def forward(self, pictures: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(pictures, (self.bands, pictures.shape[3])).flatten(1, 2)
