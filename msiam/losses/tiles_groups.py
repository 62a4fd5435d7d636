"""Positives and negatives by group, over all pairs of a batch, in memory that grows with B alone.

Supervised contrastive, multi-similarity and circle loss are made of one thing: of each anchor, the
log-sum-exp over its positives, its negatives or both. Several of them are kept at once while the
similarity matrix is walked in blocks of rows, by rows and by columns; the backward pass makes each
block again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from msiam.losses.sides import Pairs, Side
from msiam.losses.tiles import (
    exactly,
    exp_,
    is_even,
    log,
    log_sums_along,
    part,
    row_blocks,
    sums_along,
    with_product,
)


@dataclass(frozen=True)
class LogSum:
    """log Σ exp(exponent(s)) over some of an anchor's pairs, s being their inner products.

    Attributes:
        over: which pairs.
        exponent: (n, M) similarities to (n, M) exponents, in new memory.
        slope: what the exponent's derivative is taken to be: a number, or (n, M) from (n, M).
    """

    over: Literal["positives", "negatives", "all"]
    exponent: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor | float]


@dataclass(frozen=True)
class Found:
    """What was summed up for n anchors, of the rows and, where the columns ask too, of these.

    Attributes:
        log_sums: a (ways, n) tensor for each sum, −∞ where there is nothing to sum.
        total, count: (ways, n), of the similarities of their positives, the sum, and how many they
            are; where it was asked for.
    """

    log_sums: Sequence[Tensor]
    total: Tensor | None = None
    count: Tensor | None = None


def sums_over(sides: Sequence[Side], sums: Sequence[LogSum], totals: bool = False) -> list[Found]:
    """Several sums of each anchor, by side."""
    found = [_Sums.apply(*side, sums, totals) for side in sides]
    return [Found(of_side[: len(sums)], *of_side[len(sums) :]) for of_side in found]


def mean_of(costs: Sequence[Tensor]) -> Tensor:
    """The mean over the ways of all sides, (ways,) each."""
    return (costs[0] if len(costs) == 1 else torch.cat(list(costs))).mean()


class _Sums(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, a: Tensor, b: Tensor, pairs: Pairs, sums: Sequence[LogSum], totals: bool
    ) -> tuple[Tensor, ...]:
        ctx.pairs, ctx.sums, ctx.only, ctx.totals = pairs, sums, None, totals
        ctx.set_materialize_grads(False)
        of_rows: list[Tensor] = []
        of_columns: list[Tensor] = []
        with exactly(a.device):
            for block in row_blocks(len(a), len(b)):
                tile = _Tile(a, b, pairs, sums, block)
                more = tile.summed(1, totals)
                if block == slice(0, len(a)):  # no need to make it again
                    of_rows, ctx.only = more, tile
                else:
                    # One tensor for all blocks: many small ones, held between large ones that come
                    # and go, keep the allocator from using their places again.
                    of_rows = of_rows or [a.new_empty(len(a)) for _ in more]
                    for all_of_them, some in zip(of_rows, more, strict=True):
                        all_of_them[block] = some
                if pairs.both:
                    more = tile.summed(0, totals)
                    of_columns = _merged(of_columns, more, len(sums)) if of_columns else more
        if not of_rows:  # of no rows, there is no block
            of_rows = of_columns = [a.new_empty(0)] * (len(sums) + 2 * totals)
        # Where the columns ask too, they are as many as the rows.
        ways = [of_rows, of_columns] if pairs.both else [of_rows]
        results = tuple(torch.stack(each) for each in zip(*ways, strict=True))
        ctx.save_for_backward(a, b, *results[: len(sums)])
        if totals:
            ctx.mark_non_differentiable(results[-1])
        return results

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        a, b, *log_sums = ctx.saved_tensors
        of_sums = []
        for found, slope in zip(log_sums, grads, strict=False):
            # A sum of nothing has no slope: exp(−∞ − ∞) is 0, where exp(−∞ + ∞) were no number.
            found = found.masked_fill(found.isneginf(), torch.inf)
            of_sums.append((found, torch.zeros_like(found) if slope is None else slope))
        of_total = grads[len(log_sums)] if ctx.totals else None
        grad_a = grad_b = None
        with exactly(a.device):
            for block in row_blocks(len(a), len(b)):
                tile = ctx.only or _Tile(a, b, ctx.pairs, ctx.sums, block)
                slope = tile.slope(ctx.pairs.both, of_sums, of_total)
                if ctx.only and ctx.pairs.itself is not None and len(a) == len(b):
                    # Then a is b, and one product is enough for both.
                    return (slope + slope.T) @ b, None, None, None, None
                grad_a = with_product(grad_a, a, block, slope, b)
                grad_b = with_product(grad_b, b, slice(0, len(b)), slope.T, part(a, block))
        if grad_a is None or grad_b is None:  # of no rows, there is no block
            grad_a, grad_b = torch.zeros_like(a), torch.zeros_like(b)
        return grad_a, grad_b, None, None, None


def _merged(found: list[Tensor], more: list[Tensor], logs: int) -> list[Tensor]:
    """Sums with further parts of them; the first few are logarithms."""
    both = list(zip(found, more, strict=True))
    return [torch.logaddexp(*of) for of in both[:logs]] + [
        one + other for one, other in both[logs:]
    ]


class _Tile:
    """Some rows of the matrix, (n, M) numbers each.

    Attributes:
        block: which rows.
        similarities: inner products.
        terms: of each sum, exp(exponents), 0 for the pairs that are not summed, and True; or where
            that might overflow or vanish the exponents themselves, −∞ for those, and False.
        positive: 1 at the positives and 0 elsewhere.
    """

    def __init__(
        self, a: Tensor, b: Tensor, pairs: Pairs, sums: Sequence[LogSum], block: slice
    ) -> None:
        self.block, self.sums = block, sums
        self.similarities = part(a, block) @ b.T
        positive = pairs.positive(block)
        itself = None if pairs.itself is None else pairs.itself[block, None]
        self.terms = []
        for term in sums:
            t = term.exponent(self.similarities)
            nothing = 0.0 if (even := is_even(t)) else -torch.inf
            if even:
                exp_(t)
            if term.over != "all":
                t.masked_fill_(~positive if term.over == "positives" else positive, nothing)
            if itself is not None and term.over != "negatives":  # it is of its own group
                t.scatter_(1, itself, nothing)
            self.terms.append((t, even))
        self._positive, self._itself = positive, itself

    @cached_property
    def positive(self) -> Tensor:
        positive = self._positive.to(self.similarities.dtype)
        return positive if self._itself is None else positive.scatter_(1, self._itself, 0)

    @cached_property
    def of_positives(self) -> Tensor:
        """Their similarities, and 0 elsewhere."""
        return self.similarities * self.positive

    def summed(self, dim: int, totals: bool) -> list[Tensor]:
        """The logarithms of the sums along a dimension, and where asked for total and count."""
        found = [
            log(sums_along(t, dim)) if even else log_sums_along(t, dim) for t, even in self.terms
        ]
        if totals:
            found += [sums_along(x, dim) for x in (self.of_positives, self.positive)]
        return found

    def slope(
        self, both: bool, of_sums: Sequence[tuple[Tensor, Tensor]], of_total: Tensor | None
    ) -> Tensor:
        """The slope of the similarities.

        Args:
            both: the columns have sums as well.
            of_sums: logarithm and slope of each sum, (ways, n); ∞ where there was nothing to sum.
            of_total: (ways, n), the slopes of the totals.
        """
        slope = None
        for term, (t, even), (found, g) in zip(self.sums, self.terms, of_sums, strict=True):
            if even:
                some = t * self._of_pairs(g * exp_(-found), both)
            else:
                some = exp_(t - found[0, self.block, None]).mul_(g[0, self.block, None])
                if both:
                    some += exp_(t - found[1]).mul_(g[1])
            some.mul_(term.slope(self.similarities))
            slope = some if slope is None else slope.add_(some)
        assert slope is not None
        if of_total is not None:
            slope.addcmul_(self.positive, self._of_pairs(of_total, both))
        return slope

    def _of_pairs(self, slopes: Tensor, both: bool) -> Tensor:
        """What a pair has of its row's, and of its column's if these have sums as well."""
        of_rows = slopes[0, self.block, None]
        return of_rows + slopes[1] if both else of_rows
