"""A yes or no for every pair of a batch, in memory that grows with B and not with B².

The matrix of logits is walked in tiles that stay in a processor's cache. A pair's slope depends on
that pair alone, so that the gradients are made in the forward pass.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from msiam.losses import tiles
from msiam.losses.tiles import (
    Known,
    diagonal,
    distinct,
    exactly,
    part,
    product,
    square_tiles,
    with_product,
)


def softplus_cost(
    a: Tensor,
    b: Tensor,
    scale: Tensor,
    bias: Tensor,
    groups: tuple[Tensor, Tensor],
    same: Tensor | None,
) -> Tensor:
    """Σᵢⱼ log(1 + exp(−zᵢⱼ·(scale · aᵢ·bⱼ + bias))) over the pairs that are not known to match.

    z is −1, but for the pairs on the diagonal that are the same, where it is 1.

    Args:
        a, b: (N, D) and (M, D) embeddings of two columns, in float32 or wider.
        scale, bias: scalars.
        groups: (N,) and (M,) group of each row of a, and of b. Where they agree off the diagonal,
            the pair is left out.
        same: (N,) booleans, whether row i of a and row i of b belong together. None: they are no
            pair of their own, and there is no diagonal.
    """
    leaves = (a, b, scale, bias)
    if len(a) * len(b) <= tiles.TILE // 4:
        return _SmallSoftplusCost.apply(*leaves, *groups, same)
    learns = torch.is_grad_enabled() and any(leaf.requires_grad for leaf in leaves)
    return _SoftplusCost.apply(*leaves, *groups, same, learns)


class _SmallSoftplusCost(torch.autograd.Function):
    """Of one tile: its slopes are kept, and gradients are made when they are asked for."""

    @staticmethod
    def forward(
        ctx: Any,
        a: Tensor,
        b: Tensor,
        scale: Tensor,
        bias: Tensor,
        ga: Tensor,
        gb: Tensor,
        same: Tensor | None,
    ) -> Tensor:
        with exactly(a.device):
            s = (a @ b.T).mul_(scale).add_(bias)
            if same is None:
                s.masked_fill_(ga[:, None] == gb, -torch.inf)
            else:
                if not distinct(ga, gb):
                    s.masked_fill_((ga[:, None] == gb).fill_diagonal_(False), -torch.inf)
                signs = 1 - 2 * same.to(a.dtype)
                s.diagonal().mul_(signs)
            cost = nn.functional.softplus(s).sum()
            slope = s.sigmoid_()
            if same is not None:
                slope.diagonal().mul_(signs)
        ctx.save_for_backward(a, b, scale, slope)
        return cost

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        a, b, scale, slope = ctx.saved_tensors
        slope = slope * grads[0]
        grad_bias = slope.sum()
        slope.mul_(scale)
        with exactly(a.device):
            grad_a, grad_b = slope @ b, slope.T @ a
            # Logits less their bias are linear in it.
            grad_scale = product(grad_a, a) / scale if ctx.needs_input_grad[2] else None
        return grad_a, grad_b, grad_scale, grad_bias, None, None, None


class _SoftplusCost(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        a: Tensor,
        b: Tensor,
        scale: Tensor,
        bias: Tensor,
        ga: Tensor,
        gb: Tensor,
        same: Tensor | None,
        learns: bool,
    ) -> Tensor:
        total, grad_bias = a.new_zeros(()), a.new_zeros(())
        grad_a = grad_b = None
        known = Known(ga, gb, paired=same is not None)
        signs = None if same is None else 1 - 2 * same.to(a.dtype)
        with exactly(a.device):
            for tile in square_tiles(a.shape[0], b.shape[0]):
                i, j = tile
                s = (part(a, i) @ part(b, j).T).mul_(scale).add_(bias)
                known.fill(s, tile)
                offset, crossed = diagonal(tile)
                if signs is not None:
                    s.diagonal(offset).mul_(signs[crossed])
                total += nn.functional.softplus(s).sum()
                if learns:
                    slope = s.sigmoid_()
                    if signs is not None:
                        slope.diagonal(offset).mul_(signs[crossed])
                    grad_bias += slope.sum()
                    slope.mul_(scale)
                    grad_a = with_product(grad_a, a, i, slope, part(b, j))
                    grad_b = with_product(grad_b, b, j, slope.T, part(a, i))
            if learns:
                if grad_a is None or grad_b is None:  # of no rows, there is no tile
                    grad_a, grad_b = torch.zeros_like(a), torch.zeros_like(b)
                # Logits less their bias are linear in it.
                grad_scale = product(grad_a, a) / scale
                ctx.save_for_backward(grad_a, grad_b, grad_scale, grad_bias)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return *(grads[0] * slope for slope in ctx.saved_tensors), None, None, None, None
