"""What the items of a row are to one another: distances, products and cosines, (B,) of (B, D).

Autograd would do, in about twice the operations: at small batches these are what a step takes.
All are made in float32 at least, and have no second derivative.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from msiam.losses.tiles import exactly, row_sums, widened

#: Embeddings are taken to be this long at least where their directions are compared.
SHORTEST = 1e-8


def row_distances(a: Tensor, b: Tensor) -> Tensor:
    """(B,) Euclidean distances. The gradient of a distance of 0 is 0."""
    return _Distances.apply(a, b)


def row_squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """(B,) squared Euclidean distances."""
    return _SquaredDistances.apply(a, b)


def row_products(a: Tensor, b: Tensor) -> Tensor:
    """(B,) inner products."""
    return _Products.apply(a, b)


def row_cosines(a: Tensor, b: Tensor) -> Tensor:
    """(B,) cosines of the angles between embeddings of any length."""
    return _Cosines.apply(a, b)


class _Distances(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        a, b = widened(a, b)
        apart = a - b
        distances = apart.norm(dim=1)
        ctx.save_for_backward(apart, distances)
        return distances

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        apart, distances = ctx.saved_tensors
        slope = apart * (grads[0] / distances).masked_fill_(distances == 0, 0)[:, None]
        return slope, -slope


class _SquaredDistances(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        a, b = widened(a, b)
        apart = a - b
        ctx.save_for_backward(apart)
        return apart.norm(dim=1).square_()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        slope = ctx.saved_tensors[0] * (2 * grads[0])[:, None]
        return slope, -slope


class _Products(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        a, b = widened(a, b)
        ctx.save_for_backward(a, b)
        with exactly(a.device):
            return row_sums(a * b)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        a, b = ctx.saved_tensors
        slope = grads[0][:, None]
        return b * slope, a * slope


class _Cosines(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        a, b = widened(a, b)
        with exactly(a.device):
            of_a, of_b = (row_sums(x * x).clamp_(min=SHORTEST**2) for x in (a, b))
            lengths = (of_a * of_b).sqrt_()  # of equal items the cosine is 1 to the last digit
            cosines = row_sums(a * b).div_(lengths)
        ctx.save_for_backward(a, b, of_a, of_b, lengths, cosines)
        return cosines

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        a, b, of_a, of_b, lengths, cosines = ctx.saved_tensors
        across, along = (grads[0] / lengths)[:, None], grads[0] * cosines
        slope_a = (b * across).addcmul_(a, (along / of_a)[:, None], value=-1)
        slope_b = (a * across).addcmul_(b, (along / of_b)[:, None], value=-1)
        return slope_a, slope_b
