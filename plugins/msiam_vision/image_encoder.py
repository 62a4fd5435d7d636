"""What every image encoder here shares: from items to a normalised batch of pictures."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from msiam import Encoder, Options, Rejected
from msiam_vision import images
from msiam_vision.augment import NOTHING, Augmentation, augment, centre

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class ImageOptions(Options):
    """The options of every image encoder."""

    size: int = Field(64, ge=16, le=1024, description="side of the square that is seen, in pixels")
    fit: Literal["crop", "pad", "stretch"] = Field(
        "pad", description="how a picture becomes square: its middle, all of it on white, stretched"
    )
    augment: Augmentation = Field(Augmentation(), description="variation in training, or false")

    @field_validator("augment", mode="before")
    @classmethod
    def _false_is_nothing(cls, value: Any) -> Any:
        return NOTHING if value is False else value


class ImageEncoder(Encoder):
    """Prepares pictures, normalises and augments them; a subclass gives the network.

    A subclass sets ``mean`` and ``std`` (of pixels in [0, 1], by channel), and in ``build``
    makes its network and returns the width of what ``features`` gives.
    """

    Options: ClassVar[type[Options]] = ImageOptions
    modality = "image"
    reads_files = True
    mean: ClassVar[tuple[float, ...]] = IMAGENET_MEAN
    std: ClassVar[tuple[float, ...]] = IMAGENET_STD
