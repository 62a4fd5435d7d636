"""A fully-convolutional network: of a square crop it keeps the feature map, not one vector.

Bertinetto et al., "Fully-Convolutional Siamese Networks for Object Tracking" (2016).
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pydantic import Field
from torch import Tensor, nn

from msiam import Encoder, Options, Rejected
from msiam_tracking.geometry import PLACES, SEARCH

#: Kernel, stride and width (in widths of the first) of each layer. Nothing is padded, so that a
#: place of the map sees 87 × 87 pixels wherever it lies: 127 pixels make 6 places, 255 make 22, and
#: the 6 are the middle of the 22.
LAYERS = ((7, 4, 1), (3, 1, 1), (3, 2, 2), (3, 1, 3), (3, 1, 3), (3, 1, 3))


class SiamFCOptions(Options):
    """The options of siamfc."""

    width: int = Field(48, gt=0, description="channels of the first layer; the deepest have thrice")
    channels: int = Field(64, gt=0, description="of the map; a tower's dim is 484 times it")
    light: float = Field(
        0.2, ge=0, le=1, description="most that brightness and contrast vary while training"
    )


class SiamFC(Encoder):
    """Square crops to feature maps of 22 × 22 places, laid flat: d = 484 × channels.

    A vector's order is that of the map, (channels, 22, 22), so that a loss or a tracker may lay it
    out again: ``vector.unflatten(1, (-1, 22, 22))``. The inner product of two such vectors
    compares two crops place by place. A feature is (255, 255, 3) uint8.

    What looks for an exemplar within another region calls :meth:`maps`, which takes other sizes.
    """

    Options = SiamFCOptions
    modality = "image"
    reads_files = True
    budget = 16

    @property
    def dim(self) -> int:
        return self.options.channels * PLACES**2

    def fit(self, items: Iterable[Any]) -> None:
        width, before = self.options.width, 3
        blocks = []
        for kernel, stride, factor in LAYERS:
            blocks.append(
                nn.Sequential(
                    nn.Conv2d(before, factor * width, kernel, stride, bias=False),
                    nn.BatchNorm2d(factor * width),
                    nn.ReLU(inplace=True),
                )
            )
            before = factor * width
        # Channels of one variance, so that none drowns the others in a correlation.
        last = nn.Conv2d(before, self.options.channels, 3, bias=False)
        blocks.append(nn.Sequential(last, nn.BatchNorm2d(self.options.channels, affine=False)))
        self.network = nn.Sequential(*blocks)

    def layers(self) -> Sequence[nn.Module]:
        return list(self.network)

    @classmethod
    def accepts(cls, item: object) -> bool:
        if isinstance(item, dict):
            return set(item) == {"bytes", "path"}
        return isinstance(item, bytes | str | Path | np.ndarray | Image.Image)

    def prepare(self, items: Sequence[Any]) -> list[np.ndarray | Rejected]:
        return [_pixels(item) for item in items]

    def features_fingerprint(self) -> str:
        return f"crop {SEARCH}"

    def collate(self, features: Sequence[np.ndarray]) -> dict[str, Tensor]:
        return {"pixels": torch.from_numpy(np.stack(features))}

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return self.maps(batch["pixels"]).flatten(1)

    def maps(self, pixels: Tensor) -> Tensor:
        """(B, side, side, 3) uint8 to feature maps (B, channels, s, s), s = (side − 79) // 8."""
        images = pixels.permute(0, 3, 1, 2).float().div_(255)
        if self.training and self.options.light:
            images = _relit(images, self.options.light)
        images = images.sub_(0.5).div_(0.25).contiguous(memory_format=torch.channels_last)
        return self.network(images)


def _relit(images: Tensor, most: float) -> Tensor:
    """Each picture with another contrast and brightness, drawn on the CPU."""
    draws = 2 * torch.rand(2, len(images), 1, 1, 1).to(images.device) - 1
    middle = images.mean((1, 2, 3), keepdim=True)
    return (middle + (images - middle) * (1 + most * draws[0])) * (1 + most * draws[1])


def _pixels(item: Any) -> np.ndarray | Rejected:
    """A picture, stretched to the square that is seen."""
    try:
        if isinstance(item, dict):
            item = item.get("bytes") or item.get("path")
        if isinstance(item, np.ndarray):
            image = Image.fromarray(item)
        elif isinstance(item, Image.Image):
            image = item
        elif isinstance(item, bytes) and item:
            image = Image.open(io.BytesIO(item))
        elif isinstance(item, str | Path) and str(item):
            image = Image.open(item)
        else:
            return Rejected("no picture: neither pixels nor bytes nor a path")
        image = image.convert("RGB")
        if image.size != (SEARCH, SEARCH):
            image = image.resize((SEARCH, SEARCH), Image.Resampling.BILINEAR)
        return np.array(image)
    except Exception as error:  # Pillow's readers raise nearly anything on a broken file
        return Rejected(f"not a picture: {' '.join(str(error).split()) or type(error).__name__}")
