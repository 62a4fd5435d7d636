"""What the image encoders share: everything from an item to the network's input."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from msiam import Continuous, Encoder, Options, Rejected
from msiam_vision import images
from msiam_vision.augment import NOTHING, Augmentation, augment, centre, quasi_random
from msiam_vision.layers import layers_of

Channels = tuple[float, ...]


class ImageOptions(Options):
    """The options of every image encoder."""

    size: int = Field(64, ge=16, le=1024, description="side of the square that is seen, in pixels")
    fit: images.Fit = Field(
        "pad",
        description="how a picture becomes square: crop (its middle), pad (on white) or stretch",
    )
    turns: bool = Field(
        False,
        description="learn from each picture turned by quarters too, as classes of their own; for "
        "signs that mean something else turned, with data.classes",
    )
    augment: Augmentation = Field(
        Augmentation(), description="how pictures are varied while training; false for not at all"
    )

    @field_validator("augment", mode="before")
    @classmethod
    def _false_is_nothing(cls, value: object) -> object:
        return NOTHING if value is False else value


class ImageEncoder(Encoder):
    """Reads, squares, normalises and varies pictures; a subclass brings the network.

    A feature is an array of (side, side, channels) uint8, a batch {"pixels": (B, side, side,
    channels) uint8}. With ``fit: crop`` the side is an eighth above ``size``, so that training
    can look about; otherwise the whole picture is seen and the two are equal.
    """

    Options: ClassVar[type[Options]] = ImageOptions
    modality = "image"
    reads_files = True
    continuous = Continuous("pixels", 0.0, 255.0)
    #: Of pixels in [0, 1], for each channel or for all of them; by default ImageNet's.
    mean: ClassVar[Channels] = (0.485, 0.456, 0.406)
    std: ClassVar[Channels] = (0.229, 0.224, 0.225)

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self.network: nn.Module
        self.offset: Tensor
        self.scale: Tensor
        self.register_buffer("offset", _as_channels(self.mean), persistent=False)
        self.register_buffer("scale", _as_channels(self.std), persistent=False)

    @abstractmethod
    def build(self) -> nn.Module:
        """A new network with random weights: (B, channels, size, size) to (B, d)."""

    def fit(self, items: Iterable[Any]) -> None:
        self.network = self.build()

    def restore(self, folder: Path) -> None:
        self.network = self.build()

    def layers(self) -> Sequence[nn.Module]:
        return layers_of(self.network)

    def split_states(self, states: Tensor, batch: dict[str, Tensor]) -> list[Tensor] | None:
        """The map of each picture with its channels last, where pictures are not varied."""
        if self.options.augment != NOTHING:
            return None
        return list(states.movedim(1, -1) if states.dim() == 4 else states)

    def join_states(self, states: Sequence[Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        """One black picture stands in for all of them, since the stem has to run on something."""
        shape = 1, self.side, self.side, self.channels
        pixels = torch.zeros(shape, dtype=torch.uint8, device=states[0].device)
        joined = torch.stack(list(states))
        return {"pixels": pixels}, joined.movedim(-1, 1) if joined.dim() == 4 else joined

    @property
    def channels(self) -> int:
        """3 for colour, 1 for grey."""
        return 3

    @property
    def side(self) -> int:
        """The side of prepared pictures, in pixels."""
        size = self.options.size
        return size + size // 8 if self.options.fit == "crop" else size

    @classmethod
    def accepts(cls, item: object) -> bool:
        return images.accepts(item)

    def prepare(self, items: Sequence[Any]) -> list[np.ndarray | Rejected]:
        return images.prepare(items, self.side, self.options.fit, self.channels)

    @property
    def variants(self) -> int:
        return 4 if self.options.turns else 1

    def variant(self, feature: np.ndarray, number: int) -> np.ndarray:
        return np.rot90(feature, number)

    def features_fingerprint(self) -> str:
        return f"image {self.side} {self.options.fit} {self.channels}"

    def collate(self, features: Sequence[np.ndarray]) -> dict[str, Tensor]:
        return {"pixels": torch.from_numpy(np.stack(features))}

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """{"pixels": (B, side, side, channels) uint8, or floats from 0 to 255} to (B, d)."""
        pixels = batch["pixels"].permute(0, 3, 1, 2)
        if self.training:
            return self._embedded(
                augment(_in_floats(pixels), self.options.size, self.options.augment)
            )
        return self._embedded(_in_floats(centre(pixels, self.options.size)))

    def _embedded(self, pixels: Tensor) -> Tensor:
        """Of floats in [0, 1], (B, channels, size, size), which are changed in place."""
        # In place: three times as fast as a new tensor for each step.
        pixels = pixels.sub_(self.offset).div_(self.scale).to(self.offset.dtype)
        # Channels last is the faster layout on tensor cores and on a CPU (training ResNet-18 1.1
        # times, EfficientNet-Lite0 1.5 times). The weights stay as they are, for safetensors.
        return self.network(pixels.contiguous(memory_format=torch.channels_last))


class FreshOptions(ImageOptions):
    """The options of networks that are trained from scratch."""

    channels: Literal[1, 3] = Field(3, description="3 for colour, 1 for grey")
    mirrored: bool = Field(
        False,
        description="behind training, a picture's vector is the mean of its own and of its mirror "
        "image's, as faces are often embedded; takes twice the time, never for writing",
    )
    views: int = Field(
        1,
        ge=1,
        le=256,
        description="behind training, a picture's vector is the mean of so many: its own, and "
        "those of the picture varied as in training, in the same ways for all; takes as many times "
        "as long",
    )

    @model_validator(mode="after")
    def _views_differ(self) -> FreshOptions:
        if self.views > 1 and self.augment == NOTHING:
            raise ValueError(
                f"views: found {self.views}, and with augment: false all of them are one; give 1, "
                "or say in augment what varies"
            )
        return self


class FreshEncoder(ImageEncoder):
    """A network for small pictures in colour or in grey, whose statistics nobody has measured."""

    Options: ClassVar[type[Options]] = FreshOptions
    mean: ClassVar[Channels] = (0.5,)
    std: ClassVar[Channels] = (0.25,)

    @property
    def channels(self) -> int:
        return self.options.channels

    def split_states(self, states: Tensor, batch: dict[str, Tensor]) -> list[Tensor] | None:
        """None also where pictures are mirrored: the states are those of one side alone."""
        return None if self.options.mirrored else super().split_states(states, batch)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """As every image encoder; behind training, the mean over all views and their mirrors."""
        if self.training:
            return super().forward(batch)
        return torch.stack([self._embedded(view) for view in self._views(batch["pixels"])]).mean(0)

    def _views(self, pixels: Tensor) -> Iterator[Tensor]:
        """(B, side, side, channels) as (B, channels, size, size) in [0, 1], once for each view."""
        pixels, size = pixels.permute(0, 3, 1, 2), self.options.size
        yield from self._sides(_in_floats(centre(pixels, size)))
        for draw in quasi_random(self.options.views - 1):
            yield from self._sides(augment(_in_floats(pixels), size, self.options.augment, draw))

    def _sides(self, view: Tensor) -> Iterator[Tensor]:
        if self.options.mirrored:
            yield view.flip(-1)  # first, for what is embedded is written over
        yield view


def _in_floats(pixels: Tensor) -> Tensor:
    """Of 0 to 255, as [0, 1]; whoever gave floats keeps them."""
    return pixels.to(torch.float32, copy=True).div_(255)


def _as_channels(values: Channels) -> Tensor:
    return torch.tensor(values).reshape(1, -1, 1, 1)
