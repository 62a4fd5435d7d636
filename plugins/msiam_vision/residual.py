"""The residual block of the small networks that are trained from scratch (He et al., 2016)."""

from __future__ import annotations

from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """Two 3 × 3 convolutions beside a short cut, which averages where it must shrink.

    (B, before, side, side) to (B, width, ⌈side / stride⌉, ⌈side / stride⌉).
    """

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(before, width, 3, stride, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(width),
        )
        self.short = nn.Sequential()
        if stride > 1:
            self.short.append(nn.AvgPool2d(stride, ceil_mode=True))
        if before != width:
            self.short.append(nn.Conv2d(before, width, 1, bias=False))
            self.short.append(nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        return (self.body(x) + self.short(x)).relu_()
