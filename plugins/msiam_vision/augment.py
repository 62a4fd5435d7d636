"""Augmentation of a whole batch, on its device, drawn from torch's global generator."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from msiam import Options


class Augmentation(Options):
    """How pictures are varied while training. Zero switches a part off."""

    shift: float = Field(0.06, ge=0, le=0.5, description="most that a picture moves, of its side")
    zoom: float = Field(0.12, ge=0, lt=1, description="most that the window shrinks, of its side")
    grow: float = Field(0.0, ge=0, le=1, description="most that the window grows, of its side")
    rotate: float = Field(0.0, ge=0, le=180, description="most that a picture turns, in degrees")
    flip: bool = Field(False, description="mirror every other picture; never for writing")
    colour: float = Field(0.1, ge=0, le=1, description="most change of brightness and contrast")
    saturation: float = Field(0.0, ge=0, le=1, description="most change of saturation")
    erase: float = Field(0.0, ge=0, le=1, description="share of pictures that lose a rectangle")


NOTHING = Augmentation(shift=0, zoom=0, colour=0)
DRAWS = 12  # random numbers for one picture


def augment(images: Tensor, size: int, options: Augmentation) -> Tensor:
    """(B, C, P, P) in [0, 1] to varied pictures, (B, C, size, size).

    One draw of (B, DRAWS) on the CPU decides everything, so that the same state of the
    generator gives the same pictures whatever the options and the device are.
    """
    draws = torch.rand(len(images), DRAWS).to(images.device, images.dtype)
    signed = 2 * draws - 1
    images = _window(images, size, signed, options)
    if options.colour or options.saturation:
        images = _colour(images, signed[:, 5:8, None, None, None], options)
    if options.erase:
        images = _erase(images, draws[:, 8:12], options.erase)
    return images


def centre(images: Tensor, size: int) -> Tensor:
    """The middle of pictures (B, C, P, P), as (B, C, size, size)."""
    start = (images.shape[-1] - size) // 2
    return images[..., start : start + size, start : start + size]


def _window(images: Tensor, size: int, signed: Tensor, options: Augmentation) -> Tensor:
    """What is seen through a window of another size, place and angle; edges go on for ever."""
    if not (options.shift or options.zoom or options.grow or options.rotate or options.flip):
        return centre(images, size)
    share = size / images.shape[-1]  # of the picture, seen by an unmoved window
    amount = signed[:, 0]
    side = share * (1 + torch.where(amount < 0, amount * options.zoom, amount * options.grow))
    room = (1 - side).abs() + 2 * options.shift * share  # in units where the picture is 2 wide
    if not options.shift and not options.zoom and not options.grow:
        room = torch.zeros_like(room)
    angle = signed[:, 1] * math.radians(options.rotate)
    mirror = torch.where(signed[:, 2] < 0, -1.0, 1.0) if options.flip else torch.ones_like(side)
    cos, sin = side * angle.cos(), side * angle.sin()
    rows = [
        torch.stack([cos * mirror, -sin, signed[:, 3] * room], 1),
        torch.stack([sin * mirror, cos, signed[:, 4] * room], 1),
    ]
    shape = [len(images), images.shape[1], size, size]
    grid = F.affine_grid(torch.stack(rows, 1), shape, align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def _colour(images: Tensor, signed: Tensor, options: Augmentation) -> Tensor:
    brightness, contrast, saturation = signed.unbind(1)
    if options.saturation and images.shape[1] > 1:
        grey = images.mean(1, keepdim=True)
        images = torch.lerp(grey, images, 1 + saturation * options.saturation)
    if options.colour:
        mean = images.mean((1, 2, 3), keepdim=True)
        images = torch.lerp(mean, images, 1 + contrast * options.colour)
        images = images * (1 + brightness * options.colour)
    return images.clamp(0, 1)


def _erase(images: Tensor, draws: Tensor, share: float) -> Tensor:
    """A rectangle of a tenth to a half of each side becomes grey (Zhong et al., 2020)."""
    size = images.shape[-1]
    half = 0.05 + 0.2 * draws[:, 1:2, None]
    places = (torch.arange(size, device=images.device, dtype=images.dtype) + 0.5) / size
    inside = [(places - draws[:, axis, None]).abs()[:, :] < half[:, 0] for axis in (2, 3)]
    hole = inside[0][:, :, None] & inside[1][:, None, :] & (draws[:, 0] < share)[:, None, None]
    return images.masked_fill(hole[:, None], 0.5)
