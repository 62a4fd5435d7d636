"""Conv-4: the network of the few-shot literature, four blocks that each halve the picture."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import nn

from msiam_vision.image_encoder import FreshEncoder, FreshOptions
from msiam_vision.residual import ResidualBlock

Width = Annotated[int, Field(gt=0)]


class Conv4Options(FreshOptions):
    """The options of conv4."""

    size: int = Field(28, ge=16, le=1024, description="side of the square seen, in pixels")
    widths: tuple[Width, Width, Width, Width] = Field(
        (64, 64, 64, 64), description="channels of the four blocks"
    )
    residual: bool = Field(
        False, description="blocks of two convolutions with a short cut beside them, not of one"
    )


class Conv4(FreshEncoder):
    """4 × [3 × 3 convolution, batch norm, ReLU, 2 × 2 max-pool], flattened.

    d = w₄ · ⌊size / 16⌋² for the last block's width w₄: each place of its map counts on its own,
    so that where a stroke lies is not averaged away. Widths of 64 and pictures of 28 pixels are
    the literature's. With ``residual`` a block has two
    convolutions beside a short cut, for about four times the work.

    Paper: Vinyals et al., Matching Networks for One Shot Learning, 2016; Snell, Swersky and Zemel,
    Prototypical Networks for Few-shot Learning, 2017; Oreshkin, Rodríguez López and Lacoste, TADAM,
    2018 (residual blocks).
    """

    Options = Conv4Options

    @property
    def dim(self) -> int:
        return self.options.widths[-1] * (self.options.size // 16) ** 2

    def build(self) -> nn.Module:
        widths = self.options.widths
        before = (self.channels, *widths[:-1])
        block = _residual_block if self.options.residual else _block
        return nn.Sequential(*map(block, before, widths), nn.Flatten())


def _block(before: int, width: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(before, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
    )


def _residual_block(before: int, width: int) -> nn.Module:
    return nn.Sequential(ResidualBlock(before, width, stride=1), nn.MaxPool2d(2))
