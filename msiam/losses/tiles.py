"""Softmax and sigmoid over all pairs of a batch, in memory that grows with B and not with B².

The similarity matrix is walked in blocks of rows. For the softmax, one pass keeps the running
log-sum-exp of the rows *and* of the columns; the backward pass makes each block again instead of
keeping it: 4·B²·d multiplications in the place of 6, and B·chunk numbers in the place of B². For
the sigmoid, a pair's slope depends on that pair alone: the gradients are made in the forward pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

#: How many similarities are held at once: 16 MB of float32.
TILE = 1 << 22


def row_blocks(rows: int, columns: int) -> Iterator[slice]:
    """Slices of the rows such that a block of the matrix has about ``TILE`` entries."""
    step = max(1, TILE // max(columns, 1))
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))


def widened(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Both in the wider of their types, and in float32 at least.

    Similarities that are scaled up need more digits than bf16 has.
    """
    wide = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)
    return a.to(wide), b.to(wide)


def softmax_cost(
    a: Tensor,
    b: Tensor,
    scale: Tensor,
    groups: tuple[Tensor, Tensor],
    weights: tuple[Tensor, Tensor],
) -> Tensor:
    """Σᵢ rᵢ·(lseⱼ sᵢⱼ − sᵢᵢ) + Σⱼ cⱼ·(lseᵢ sᵢⱼ − sⱼⱼ) with s = scale · a bᵀ.

    Args:
        a, b: (B, D) embeddings of two columns; row i of one belongs to row i of the other.
        scale: scalar, the inverse temperature.
        groups: (B,) group of each row of a, and of b. Where they agree off the diagonal, the two
            are known to belong together, and the entry is left out of both sums.
        weights: r and c, (B,): how much each row counts as an anchor in each direction. A row of
            weight 0 is a candidate only.
    """
    return _SoftmaxCost.apply(a, b, scale, *groups, *weights)


class _SoftmaxCost(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, a: Tensor, b: Tensor, scale: Tensor, ga: Tensor, gb: Tensor, r: Tensor, c: Tensor
    ) -> Tensor:
        # Similarities at a temperature of 0.01 need more digits than bf16 has.
        wide = torch.promote_types(a.dtype, torch.float32)
        with torch.autocast(a.device.type, enabled=False):
            a, b, scale, r, c = (t.to(wide) for t in (a, b, scale, r, c))
            of_rows = a.new_empty(len(a))
            of_columns = a.new_full((len(b),), -torch.inf)
            for block in row_blocks(len(a), len(b)):
                s = _similarities(a, b, scale, ga, gb, block)
                of_rows[block] = s.logsumexp(dim=1)
                of_columns = torch.logaddexp(of_columns, s.logsumexp(dim=0))
            own = scale * (a * b).sum(dim=1)
            ctx.save_for_backward(a, b, scale, ga, gb, r, c, of_rows, of_columns)
            return r @ (of_rows - own) + c @ (of_columns - own)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        a, b, scale, ga, gb, r, c, of_rows, of_columns = ctx.saved_tensors
        grad_a, grad_b, grad_scale = torch.empty_like(a), torch.zeros_like(b), scale.new_zeros(())
        with torch.autocast(a.device.type, enabled=False):
            for block in row_blocks(len(a), len(b)):
                s = _similarities(a, b, scale, ga, gb, block)
                slope = (s - of_rows[block, None]).exp_().mul_(r[block, None])
                slope += (s - of_columns).exp_().mul_(c)
                slope.diagonal(block.start).sub_((r + c)[block])
                grad_a[block] = slope @ b
                grad_b.addmm_(slope.T, a[block])
            # s is linear in the scale, so its slope is what the embeddings' slopes add up to.
            grad_scale = (grad_a * a).sum()
            upstream = grads[0].to(a.dtype)
            grad_a, grad_b = grad_a * (scale * upstream), grad_b * (scale * upstream)
        return grad_a, grad_b, grad_scale * upstream, None, None, None, None


def _similarities(
    a: Tensor, b: Tensor, scale: Tensor, ga: Tensor, gb: Tensor, block: slice
) -> Tensor:
    """One block of rows of s, known matches off the diagonal set to −∞."""
    s = (a[block] * scale) @ b.T
    known = ga[block, None] == gb
    known.diagonal(block.start).fill_(False)
    return s.masked_fill_(known, -torch.inf)


def softplus_cost(
    a: Tensor, b: Tensor, scale: Tensor, bias: Tensor, groups: tuple[Tensor, Tensor]
) -> Tensor:
    """Σᵢⱼ log(1 + exp(scale · aᵢ·bⱼ + bias)) over i ≠ j of different groups.

    Args:
        a, b: (B, D) embeddings of two columns, in float32 or wider.
        scale, bias: scalars.
        groups: (B,) group of each row of a, and of b.
    """
    leaves = (a, b, scale, bias)
    learns = torch.is_grad_enabled() and any(leaf.requires_grad for leaf in leaves)
    return _SoftplusCost.apply(*leaves, *groups, learns)


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
        learns: bool,
    ) -> Tensor:
        total, grad_bias = a.new_zeros(()), a.new_zeros(())
        grad_a, grad_b = (torch.zeros_like(t) if learns else None for t in (a, b))
        with torch.autocast(a.device.type, enabled=False):
            for block in row_blocks(len(a), len(b)):
                s = ((a[block] * scale) @ b.T).add_(bias)
                left_out = ga[block, None] == gb
                left_out.diagonal(block.start).fill_(True)
                s.masked_fill_(left_out, -torch.inf)
                total += nn.functional.softplus(s).sum()
                if grad_a is not None and grad_b is not None:
                    slope = s.sigmoid_()
                    grad_a[block] = slope @ b
                    grad_b.addmm_(slope.T, a[block])
                    grad_bias += slope.sum()
        if grad_a is not None and grad_b is not None:
            grad_scale = (grad_a * a).sum()  # the logits are linear in the scale
            ctx.save_for_backward(grad_a.mul_(scale), grad_b.mul_(scale), grad_scale, grad_bias)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return *(grads[0] * slope for slope in ctx.saved_tensors), None, None, None
