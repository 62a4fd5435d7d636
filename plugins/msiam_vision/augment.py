"""Augmentation of a whole batch, on its device, drawn from torch's global generator."""

from __future__ import annotations

import math
from functools import cache

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from msiam import Options


class Augmentation(Options):
    """How pictures are varied while training. Zero switches a part off."""

    shift: float = Field(0.06, ge=0, le=0.5, description="most that a picture moves, of its side")
    zoom: float = Field(0.1, ge=0, lt=1, description="most that the window shrinks, of its side")
    grow: float = Field(0.1, ge=0, le=1, description="most that the window grows, of its side")
    rotate: float = Field(0.0, ge=0, le=180, description="most that a picture turns, in degrees")
    shear: float = Field(
        0.0,
        ge=0,
        le=1,
        description="most that a picture leans: what its top moves, of half its side",
    )
    stretch: float = Field(
        0.0, ge=0, le=1, description="most that one side grows, while the other shrinks"
    )
    flip: bool = Field(False, description="mirror every other picture; never for writing")
    colour: float = Field(0.0, ge=0, le=1, description="most change of brightness and contrast")
    saturation: float = Field(0.0, ge=0, le=1, description="most change of saturation")
    erase: float = Field(0.0, ge=0, le=1, description="share of pictures that lose a rectangle")


NOTHING = Augmentation(shift=0, zoom=0, grow=0)
DRAWS = 12  # random numbers for one picture, and two more where it leans or stretches


def augment(images: Tensor, size: int, options: Augmentation, draw: Tensor | None = None) -> Tensor:
    """(B, C, P, P) in [0, 1] to varied pictures, (B, C, size, size).

    One draw of (B, numbers) on the CPU decides everything, so that one state of the generator
    gives the same pictures on every device. One of (numbers,) that is given varies all alike.
    """
    numbers = DRAWS + 2 * bool(options.shear or options.stretch)
    draws = (
        torch.rand(len(images), numbers) if draw is None else draw[:numbers].expand(len(images), -1)
    )
    draws = draws.to(images.device, images.dtype)
    signed = 2 * draws - 1
    images = _through_window(images, size, signed[:, :5], signed[:, DRAWS:], options)
    if options.colour or options.saturation:
        images = _recoloured(images, signed[:, 5:8, None, None, None], options)
    if options.erase:
        images = _erased(images, draws[:, 8:12], options.erase)
    return images


@cache
def quasi_random(count: int) -> Tensor:
    """(count, numbers) draws that lie evenly, always the same: Sobol's (1967), scrambled."""
    engine = torch.quasirandom.SobolEngine(DRAWS + 2, scramble=True, seed=0)
    return engine.draw(count + 1)[1:]  # torch refuses to draw none


def centre(images: Tensor, size: int) -> Tensor:
    """The middle of pictures (B, C, P, P), as (B, C, size, size)."""
    start = (images.shape[-1] - size) // 2
    return images[..., start : start + size, start : start + size]


def _through_window(
    images: Tensor, size: int, signed: Tensor, bent: Tensor, options: Augmentation
) -> Tensor:
    """The pictures through a window moved, scaled, bent and turned; their edges go on for ever."""
    moves = options.shift or options.zoom or options.grow
    if not (moves or bent.numel() or options.rotate or options.flip):
        return centre(images, size)
    scale, turn, side, right, down = signed.unbind(1)
    share = size / images.shape[-1]  # of the picture's side, seen by a window left as it is
    reach = share * (1 + torch.where(scale < 0, scale * options.zoom, scale * options.grow))
    # Coordinates go from -1 to 1. The window goes anywhere in the picture, or round it.
    room = (1 - reach).abs() + 2 * share * options.shift if moves else torch.zeros_like(reach)
    mirror = torch.where(side < 0, -1.0, 1.0) if options.flip else torch.ones_like(reach)
    angle = turn * math.radians(options.rotate)
    cos, sin = ((reach * part)[:, None, None] for part in (angle.cos(), angle.sin()))
    line = (torch.arange(size, device=images.device, dtype=images.dtype) * 2 + 1) / size - 1
    x, y = mirror[:, None, None] * line, line[:, None]
    if bent.numel():
        lean, wide = bent[:, :, None, None].unbind(1)
        wide = (1 + options.stretch) ** wide
        x, y = x / wide + lean * options.shear * y, y * wide
    grid = torch.stack(
        [
            cos * x - sin * y + (right * room)[:, None, None],
            sin * x + cos * y + (down * room)[:, None, None],
        ],
        -1,
    )  # (B, size, size, 2): where each pixel of the window looks
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def _recoloured(images: Tensor, signed: Tensor, options: Augmentation) -> Tensor:
    brightness, contrast, saturation = signed.unbind(1)
    if options.saturation:
        grey = images.mean(1, keepdim=True)
        images = grey + (images - grey) * (1 + saturation * options.saturation)
    if options.colour:
        mean = images.mean((1, 2, 3), keepdim=True)
        images = mean + (images - mean) * (1 + contrast * options.colour)
        images = images * (1 + brightness * options.colour)
    return images.clamp(0, 1)


def _erased(images: Tensor, draws: Tensor, share: float) -> Tensor:
    """In a share of the pictures a square becomes grey, a tenth to a half as wide (Zhong, 2020)."""
    chosen, edge, across, down = draws[:, :, None].unbind(1)  # (B, 1) each
    size = images.shape[-1]
    line = (torch.arange(size, device=images.device, dtype=images.dtype) + 0.5) / size
    half = 0.05 + 0.2 * edge
    columns, rows = (line - across).abs() < half, (line - down).abs() < half  # (B, size)
    hole = rows[:, :, None] & columns[:, None, :] & (chosen < share)[:, :, None]
    return images.masked_fill(hole[:, None], 0.5)
