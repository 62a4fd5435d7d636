"""A small residual CNN for small pictures, fast on a CPU and trained from scratch."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field, model_validator
from torch import nn

from msiam_vision.image_encoder import FreshEncoder, FreshOptions
from msiam_vision.residual import ResidualBlock

STAGES = (1, 2, 4, 8)  # their widths, in widths of the first


class SmallCNNOptions(FreshOptions):
    """The options of small_cnn."""

    size: int = Field(64, ge=32, le=1024, description="side of the square seen, in pixels")
    width: int = Field(32, gt=0, description="channels in the first stage; the last has 8 times it")
    depth: int = Field(1, gt=0, description="residual blocks a stage")
    patch: Literal[1, 2, 4] = Field(
        4, description="side of the patches it starts from, in pixels: 4 is fast, 2 sees finer"
    )
    pool: int = Field(
        1,
        gt=0,
        description="side of the map that the last one is averaged to: 1 forgets where in the "
        "picture something is, 3 tells nine places apart",
    )

    @model_validator(mode="after")
    def _pool_fits(self) -> SmallCNNOptions:
        side = math.ceil(self.size // self.patch / 2 ** (len(STAGES) - 1))
        if self.pool > side:
            raise ValueError(
                f"pool: found {self.pool}; of pictures of {self.size} pixels in patches of "
                f"{self.patch} the last map has a side of {side}, so give at most that"
            )
        return self


class SmallCNN(FreshEncoder):
    """Patches, four stages of residual blocks and their average: d = 8 × width · pool².

    He et al., "Deep Residual Learning for Image Recognition" (2016), with the stem of patches of
    Dosovitskiy et al. (2021), which leaves the blocks a sixteenth of the pixels.
    """

    Options = SmallCNNOptions

    @property
    def dim(self) -> int:
        return STAGES[-1] * self.options.width * self.options.pool**2

    def build(self) -> nn.Module:
        width, patch = self.options.width, self.options.patch
        layers: list[nn.Module] = [
            nn.Conv2d(self.channels, width, patch, stride=patch, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        ]
        before = width
        for stage, factor in enumerate(STAGES):
            for block in range(self.options.depth):
                stride = 2 if stage and not block else 1
                layers.append(ResidualBlock(before, factor * width, stride))
                before = factor * width
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(self.options.pool), nn.Flatten())
