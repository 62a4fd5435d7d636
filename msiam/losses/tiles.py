"""Softmax over all pairs of a batch, in memory that grows with B and not with B².

The similarity matrix is walked in tiles that stay in a processor's cache. One pass keeps the
running log-sum-exp of the rows *and* of the columns; the backward pass makes each tile again
instead of keeping it: 4·B²·d multiplications in the place of 6, and B + TILE numbers in the place
of B². ``softmax.py`` says what is computed.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from msiam.losses.share import Share

#: How many similarities a block of rows has at most, about a million: 4 MB of float32.
TILE = 1 << 20

#: Of so few similarities, finding out which ones are known costs more than it saves.
FEW = 1 << 17

#: exp(s) for |s| up to this, and a sum of 10¹⁰ of them, is a plain number even in float32.
LEVEL = 64.0


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
    types = {v.dtype for v in vectors}
    if types == {torch.float32}:
        return vectors
    wide = functools.reduce(torch.promote_types, types, torch.float32)
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


def distinct(ga: Tensor, gb: Tensor) -> bool:
    """Whether no two columns are of one group, and the first are of the rows' groups, in order.

    Then no pair off the diagonal is known. In most batches it is so, and quickly seen.
    """
    return torch.equal(ga, gb[: ga.shape[0]]) and len(set(gb.tolist())) == gb.shape[0]


def matches(ga: Tensor, gb: Tensor) -> Tensor:
    """(N,) integers: how many of the M groups gb each of the N groups ga is."""
    ranked = gb.sort().values
    return torch.searchsorted(ranked, ga, right=True) - torch.searchsorted(ranked, ga)


# Some of torch's functions take several times as long as these: they wake threads for few numbers,
# or go by a library that is slow on some processors.


def log(values: Tensor) -> Tensor:
    """Natural logarithms."""
    return torch.xlogy(values.new_ones(()), values)


def exp_(values: Tensor) -> Tensor:
    """exp, in place."""
    return values.mul_(1 / math.log(2)).exp2_()


def sums_along(matrix: Tensor, dim: int) -> Tensor:
    """The sums of a matrix along one of its dimensions."""
    return row_sums(matrix if dim == 1 else matrix.T)


def row_sums(rows: Tensor) -> Tensor:
    """(N,) sums over D."""
    return rows.mv(rows.new_ones(rows.shape[1]))


def log_sums_along(matrix: Tensor, dim: int) -> Tensor:
    """log Σ exp along one of a matrix's dimensions, −∞ of nothing."""
    if not matrix.numel():
        return matrix.logsumexp(dim)
    most = matrix.amax(dim, keepdim=True).clamp_(min=torch.finfo(matrix.dtype).min)
    return log(sums_along(exp_(matrix - most), dim)).add_(most.squeeze(dim))


def product(a: Tensor, b: Tensor) -> Tensor:
    """The sum of all products of two matrices' entries, without a third matrix if it were large."""
    if a.numel() > FEW:
        return torch.dot(a.view(-1), b.reshape(-1))
    return row_sums(a * b).sum()


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


def part(vectors: Tensor, some: slice) -> Tensor:
    """Some of the rows, which may be all."""
    return vectors if some == slice(0, vectors.shape[0]) else vectors[some]


def with_product(
    total: Tensor | None, vectors: Tensor, some: slice, slope: Tensor, others: Tensor
) -> Tensor:
    """The gradient of vectors with a product added to some of its rows; None: it is the first."""
    if total is None:
        if some == slice(0, vectors.shape[0]):
            return slope @ others
        total = torch.zeros_like(vectors)
    part(total, some).addmm_(slope, others)
    return total


class TiledSoftmaxCost(torch.autograd.Function):
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
        share: Share | None,
    ) -> Tensor:
        a, b = widened(a, b)
        scale, r, c = scale.to(a.dtype), r.to(a.dtype), None if c is None else c.to(a.dtype)
        n, m = a.shape[0], b.shape[0]
        tiles, known = square_tiles(n, m), Known(ga, gb)
        own, of_rows = a.new_empty(n), a.new_empty(n)
        of_columns = None if c is None else b.new_empty(m)
        level = True
        with exactly(a.device):
            for tile in tiles:
                i, j = tile
                s = (part(a, i) @ part(b, j).T).mul_(scale)
                offset, crossed = diagonal(tile)
                own[crossed] = s.diagonal(offset)
                level &= (even := is_even(s))  # then, exp once for rows and columns alike
                known.fill(s, tile)
                if even:
                    exp_(s)
                some = log(sums_along(s, 1)) if even else log_sums_along(s, 1)
                of_rows = added(of_rows, i, some, j.start)
                if of_columns is not None:
                    some = log(sums_along(s, 0)) if even else log_sums_along(s, 0)
                    of_columns = added(of_columns, j, some, i.start)
            cost = r @ (of_rows - own)
            if of_columns is not None and c is not None:
                if share is not None:
                    of_columns = share.log_total(of_columns)
                cost += part(c, slice(0, n)) @ (part(of_columns, slice(0, n)) - own)
        ctx.known, ctx.level = known, level
        only = s if len(tiles) == 1 else None  # no need to make it again
        ctx.save_for_backward(a, b, scale, r, c, of_rows, of_columns, only)
        return cost

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        a, b, scale, r, c, of_rows, of_columns, only = ctx.saved_tensors
        grad_a = grad_b = None
        factor = scale * grads[0]
        r, c = r * factor, c if c is None else c * factor
        on_diagonal = r if c is None else r + part(c, slice(0, len(r)))
        if ctx.level:
            r = r * exp_(-of_rows)
            c = c if c is None else c * exp_(-of_columns)
        with exactly(a.device):
            for tile in square_tiles(a.shape[0], b.shape[0]):
                i, j = tile
                s = only
                if s is None:
                    s = (a[i] @ b[j].T).mul_(scale)
                    ctx.known.fill(s, tile)
                    s = exp_(s) if ctx.level else s
                if ctx.level:
                    share = r[i, None] if c is None else r[i, None] + c[j]
                    slope = s * share
                else:
                    slope = exp_(s - of_rows[i, None]).mul_(r[i, None])
                    if c is not None:
                        slope += exp_(s - of_columns[j]).mul_(c[j])
                offset, crossed = diagonal(tile)
                slope.diagonal(offset).sub_(on_diagonal[crossed])
                grad_a = with_product(grad_a, a, i, slope, part(b, j))
                grad_b = with_product(grad_b, b, j, slope.T, part(a, i))
            if grad_a is None or grad_b is None:  # of no rows, there is no tile
                grad_a, grad_b = torch.zeros_like(a), torch.zeros_like(b)
            # s is linear in the scale, so that its slope is what the embeddings' slopes add up to.
            grad_scale = product(grad_a, a) / scale if ctx.needs_input_grad[2] else None
        return grad_a, grad_b, grad_scale, *[None] * 5


def added(sums: Tensor, some: slice, more: Tensor, before: int) -> Tensor:
    """Logarithms of sums with those of further parts; the first of these has none before it."""
    if not before and len(more) == len(sums):
        return more
    sums[some] = torch.logaddexp(sums[some], more) if before else more
    return sums
