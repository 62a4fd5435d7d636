"""Softmax and sigmoid over all pairs of a batch, in memory that grows with B and not with B².

The similarity matrix is walked in tiles that stay in a processor's cache. For the softmax, one pass
keeps the running log-sum-exp of the rows *and* of the columns; the backward pass makes each tile
again instead of keeping it: 4·B²·d multiplications in the place of 6, and B + TILE numbers in the
place of B². For the sigmoid, a pair's slope depends on that pair alone: the gradients are made in
the forward pass.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

#: How many similarities are held at once: 4 MB of float32.
TILE = 1 << 20

#: Of so few similarities, finding out which ones are known costs more than it saves.
FEW = 1 << 17

#: exp(s) for |s| up to this, and a sum of 10¹⁶ of them, is a plain number even in float32.
LEVEL = 50.0


def row_blocks(rows: int, columns: int) -> Iterator[slice]:
    """Slices of the rows such that a block of the matrix has about ``TILE`` entries."""
    step = max(1, TILE // max(columns, 1))
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))


def square_tiles(rows: int, columns: int) -> list[tuple[slice, slice]]:
    """Slices of rows and columns that cover the matrix, of at most ``TILE`` / 4 entries each.

    They are squares where the matrix is wide enough, for then a product reads the fewest numbers.
    """
    most = max(1, TILE // 4)
    side = math.isqrt(most)
    wide = min(max(columns, 1), side)
    high = side if wide == side else most // wide
    return [
        (slice(i, min(i + high, rows)), slice(j, min(j + wide, columns)))
        for i in range(0, rows, high)
        for j in range(0, columns, wide)
    ]


def widened(*vectors: Tensor) -> tuple[Tensor, ...]:
    """All in the widest of their types, and in float32 at least.

    Similarities that are scaled up need more digits than bf16 has.
    """
    wide = functools.reduce(torch.promote_types, (v.dtype for v in vectors), torch.float32)
    return tuple(v.to(wide) for v in vectors)


class Known:
    """The pairs off the diagonal that belong together. In most large batches, few rows have any.

    Attributes:
        ga, gb: (N,) and (M,), the groups of the rows and of the columns.
        paired: row i and column i are a pair of their own; else there is no diagonal.
        rows: (N,) booleans, the rows that may have such a pair; None: all may.
    """

    def __init__(self, ga: Tensor, gb: Tensor, paired: bool = True) -> None:
        self.ga, self.gb, self.paired = ga, gb, paired
        self.rows: Tensor | None = None
        if ga.shape[0] * gb.shape[0] > FEW:
            many = matches(ga, gb)
            if paired:
                many -= (ga == gb[: ga.shape[0]]).long()
            self.rows = many > 0

    def fill(self, s: Tensor, tile: tuple[slice, slice]) -> None:
        """Set their entries in a tile to −∞."""
        i, j = tile
        offset = i.start - j.start
        if self.rows is None:
            known = self.ga[i, None] == self.gb[j]
            if self.paired:
                known.diagonal(offset).fill_(False)
            s.masked_fill_(known, -torch.inf)
            return
        some = self.rows[i].nonzero()[:, 0]
        known = self.ga[i][some, None] == self.gb[j]
        if self.paired:
            known &= (some + offset)[:, None] != torch.arange(s.shape[1], device=s.device)
        s[some] = s[some].masked_fill_(known, -torch.inf)


def matches(ga: Tensor, gb: Tensor) -> Tensor:
    """(N,) integers: how many of the M groups gb each of the N groups ga is."""
    ranked = gb.sort().values
    return torch.searchsorted(ranked, ga, right=True) - torch.searchsorted(ranked, ga)


def exactly(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """No autocast within."""
    if torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return contextlib.nullcontext()


def is_even(s: Tensor) -> bool:
    """Whether exp can neither overflow nor vanish."""
    low, high = s.aminmax()
    return low.item() >= -LEVEL and high.item() <= LEVEL


def diagonal(tile: tuple[slice, slice]) -> tuple[int, slice]:
    """The offset in a tile of the matrix's main diagonal, and the rows that it crosses there."""
    rows, columns = tile
    start, stop = max(rows.start, columns.start), min(rows.stop, columns.stop)
    return rows.start - columns.start, slice(start, max(start, stop))


def softmax_cost(
    a: Tensor,
    b: Tensor,
    scale: Tensor,
    groups: tuple[Tensor, Tensor],
    weights: tuple[Tensor, Tensor | None],
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
    """
    return _SoftmaxCost.apply(a, b, scale, *groups, *weights)


class _SoftmaxCost(torch.autograd.Function):
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
        n, m = a.shape[0], b.shape[0]
        tiles, known = square_tiles(n, m), Known(ga, gb)
        of_rows, own = a.new_empty(2, n).unbind()
        of_columns = None if c is None else b.new_empty(m)
        s, level = own, True
        with exactly(a.device):
            for tile in tiles:
                i, j = tile
                s = (a[i] * scale) @ b[j].T
                offset, crossed = diagonal(tile)
                own[crossed] = s.diagonal(offset)
                level &= (even := is_even(s))  # then, exp once for rows and columns alike
                known.fill(s, tile)
                if even:
                    s.exp_()
                _add(of_rows, i, s.sum(dim=1).log_() if even else s.logsumexp(dim=1), j.start)
                if of_columns is not None:
                    part = s.sum(dim=0).log_() if even else s.logsumexp(dim=0)
                    _add(of_columns, j, part, i.start)
            cost = r @ (of_rows - own)
            if of_columns is not None and c is not None:
                cost += c @ (of_columns - own)
        ctx.known, ctx.level = known, level
        only = s if len(tiles) == 1 else None  # no need to make it again
        ctx.save_for_backward(a, b, scale, r, c, of_rows, of_columns, only)
        return cost

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        a, b, scale, r, c, of_rows, of_columns, only = ctx.saved_tensors
        grad_a, grad_b = torch.zeros_like(a), torch.zeros_like(b)
        factor = scale * grads[0]
        r, c = r * factor, c if c is None else c * factor
        on_diagonal = r if c is None else r + c
        if ctx.level:
            r = r * of_rows.neg().exp_()
            c = c if c is None else c * of_columns.neg().exp_()
        with exactly(a.device):
            for tile in square_tiles(a.shape[0], b.shape[0]):
                i, j = tile
                s = only
                if s is None:
                    s = (a[i] * scale) @ b[j].T
                    ctx.known.fill(s, tile)
                    s = s.exp_() if ctx.level else s
                if ctx.level:
                    share = r[i, None] if c is None else r[i, None] + c[j]
                    slope = share * s if c is None else share.mul_(s)
                else:
                    slope = (s - of_rows[i, None]).exp_().mul_(r[i, None])
                    if c is not None:
                        slope += (s - of_columns[j]).exp_().mul_(c[j])
                offset, crossed = diagonal(tile)
                slope.diagonal(offset).sub_(on_diagonal[crossed])
                grad_a[i].addmm_(slope, b[j])
                grad_b[j].addmm_(slope.T, a[i])
            # s is linear in the scale, so its slope is what the embeddings' slopes add up to.
            grad_scale = torch.dot(grad_a.view(-1), a.reshape(-1)) / scale
        return grad_a, grad_b, grad_scale, None, None, None, None


def _add(sums: Tensor, some: slice, part: Tensor, before: int) -> None:
    """Add to logarithms of sums those of further parts; the first one has none before it."""
    sums[some] = torch.logaddexp(sums[some], part) if before else part


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
    learns = torch.is_grad_enabled() and any(leaf.requires_grad for leaf in leaves)
    return _SoftplusCost.apply(*leaves, *groups, same, learns)


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
        grad_a, grad_b = (torch.zeros_like(t if learns else t[:0]) for t in (a, b))
        known = Known(ga, gb, paired=same is not None)
        signs = None if same is None else 1 - 2 * same.to(a.dtype)
        with exactly(a.device):
            for tile in square_tiles(a.shape[0], b.shape[0]):
                i, j = tile
                s = torch.addmm(bias, a[i] * scale, b[j].T)
                known.fill(s, tile)
                offset, crossed = diagonal(tile)
                if signs is not None:
                    s.diagonal(offset).mul_(signs[crossed])
                total += nn.functional.softplus(s).sum()
                if learns:
                    slope = s.sigmoid_()
                    if signs is not None:
                        slope.diagonal(offset).mul_(signs[crossed])
                    grad_a[i].addmm_(slope, b[j])
                    grad_b[j].addmm_(slope.T, a[i])
                    grad_bias += slope.sum()
            if learns:
                grad_scale = torch.dot(grad_a.view(-1), a.reshape(-1))  # logits are linear in it
                ctx.save_for_backward(grad_a.mul_(scale), grad_b.mul_(scale), grad_scale, grad_bias)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return *(grads[0] * slope for slope in ctx.saved_tensors), None, None, None, None
