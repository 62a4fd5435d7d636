"""Softmax over all pairs of a batch, in memory that grows with B and not with B².

The similarity matrix is walked in blocks of rows. One pass keeps the running log-sum-exp of the
rows *and* of the columns; the backward pass makes each block again instead of keeping it: 4·B²·d
multiplications in the place of 6, and B·chunk numbers in the place of B².
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

#: How many similarities are held at once: 16 MB of float32.
TILE = 1 << 22


def row_blocks(rows: int, columns: int) -> Iterator[slice]:
    """Slices of the rows such that a block of the matrix has about ``TILE`` entries."""
    step = max(1, TILE // max(columns, 1))
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))


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
