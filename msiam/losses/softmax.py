"""Softmax over all pairs of a batch: by tiles, and at once where the batch is but one tile."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from msiam.losses import tiles
from msiam.losses.share import Share
from msiam.losses.tiles import (
    TiledSoftmaxCost,
    exactly,
    exp_,
    is_even,
    log,
    product,
    row_sums,
    widened,
)


def softmax_cost(
    a: Tensor,
    b: Tensor,
    scale: Tensor,
    groups: tuple[Tensor, Tensor],
    weights: tuple[Tensor, Tensor | None],
    share: Share | None = None,
) -> Tensor:
    """Σᵢ rᵢ·(lseⱼ sᵢⱼ − sᵢᵢ) + Σⱼ cⱼ·(lseᵢ sᵢⱼ − sⱼⱼ) with s = scale · a bᵀ.

    Args:
        a, b: (N, D) and (M, D) embeddings, N ≤ M; row i of one belongs to row i of the other, and
            further rows of b are candidates only.
        scale: scalar, the inverse temperature.
        groups: (N,) and (M,) group of each row of a, and of b. Where they agree off the diagonal,
            the two are known to belong together, and the entry is left out of both sums.
        weights: r and c, (N,) each: how much each row counts as an anchor in each direction. A row
            of weight 0 is a candidate only. c is None where rows of b are no anchors; else N = M.
        share: the N rows are this process's part of M pairs, and r that of the weights c, (M,).
            The sums of columns are over all processes, and this one's share of the cost is given.
    """
    if share is None and 0 < len(a) * len(b) <= tiles.TILE // 4:
        return _SmallSoftmaxCost.apply(a, b, scale, *groups, *weights)
    return TiledSoftmaxCost.apply(a, b, scale, *groups, *weights, share)


class _SmallSoftmaxCost(torch.autograd.Function):
    """The slope is made in the forward pass, and no sums are kept."""

    @staticmethod
    def forward(
        ctx: Any,
        a: Tensor,
        b: Tensor,
        scale: Tensor,
        ga: Tensor,
        gb: Tensor,
        r: Tensor,
        c: Tensor | None,
    ) -> Tensor:
        a, b = widened(a, b)
        scale, r, c = scale.to(a.dtype), r.to(a.dtype), None if c is None else c.to(a.dtype)
        with exactly(a.device):
            s = (a @ b.T).mul_(scale)
            own, even = s.diagonal().clone(), is_even(s)
            s.masked_fill_((ga[:, None] == gb).fill_diagonal_(False), -torch.inf)
            if even:
                exp_(s)
            share, sums = _shares(s, 1, even)
            cost, pull = r @ (sums - own), r
            slope = share.mul_(r[:, None])
            if c is not None:
                share, sums = _shares(s, 0, even)
                cost, pull = cost + c @ (sums - own), r + c
                slope.addcmul_(share, c)
            slope.diagonal().sub_(pull)
        ctx.save_for_backward(a, b, scale, slope)
        return cost

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        a, b, scale, slope = ctx.saved_tensors
        slope = slope * (scale * grads[0])
        with exactly(a.device):
            grad_a, grad_b = slope @ b, slope.T @ a
            # s is linear in the scale, so that its slope is what the embeddings' slopes add up to.
            grad_scale = product(grad_a, a) / scale if ctx.needs_input_grad[2] else None
        return grad_a, grad_b, grad_scale, *[None] * 4


def _shares(s: Tensor, dim: int, even: bool) -> tuple[Tensor, Tensor]:
    """Each entry's share of the sum over a dimension, in new memory, and the sums' logarithms.

    Args:
        s: similarities, or where these are even their exp.
    """
    if not even:
        sums = s.logsumexp(dim=dim)
        return (s - sums.unsqueeze(dim)).exp_(), sums
    sums = row_sums(s if dim == 1 else s.T)
    return s / sums.unsqueeze(dim), log(sums)
