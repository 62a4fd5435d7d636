"""Softmax over all pairs of a batch: by tiles, and at once where the batch is but one tile."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from msiam.losses import tiles
from msiam.losses.share import Share
from msiam.losses.tiles import TiledSoftmaxCost, distinct, exactly, exp_, product, widened


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
            s = (b @ a.T).mul_(scale)  # a column for each row of a: softmax is fastest over columns
            if not distinct(ga, gb):
                s.masked_fill_((gb[:, None] == ga).fill_diagonal_(False), -torch.inf)
            shares = s.log_softmax(0)
            cost, pull = r @ shares.diagonal(), r
            slope = exp_(shares).mul_(r)
            if c is not None:
                shares = s.log_softmax(1)
                cost, pull = cost + c @ shares.diagonal(), r + c
                slope.addcmul_(exp_(shares), c[:, None])
            slope.diagonal().sub_(pull)
        ctx.save_for_backward(a, b, scale, slope)
        return -cost

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        a, b, scale, slope = ctx.saved_tensors
        slope = slope * (scale * grads[0])
        with exactly(a.device):
            grad_a, grad_b = slope.T @ b, slope @ a
            # s is linear in the scale, so that its slope is what the embeddings' slopes add up to.
            grad_scale = product(grad_a, a) / scale if ctx.needs_input_grad[2] else None
        return grad_a, grad_b, grad_scale, *[None] * 4
