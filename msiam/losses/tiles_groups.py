"""Positives and negatives by group, over all pairs of a batch, in memory that grows with B alone.

Supervised contrastive, multi-similarity and circle loss are made of one thing: of each anchor, the
log-sum-exp over its positives, its negatives or both. Several of them are kept at once while the
similarity matrix is walked in blocks of rows, by rows and by columns; the backward pass makes each
block again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from msiam.losses.base import Targets
from msiam.losses.tiles import exactly, is_even, row_blocks, widened


@dataclass(frozen=True)
class Pairs:
    """Which items make a pair, and which pairs are positive.

    A pair of one group is positive. Where rows are labelled, a row's own pair is what its label
    says, whatever the groups say.

    Attributes:
        rows, columns: (N,) and (M,) integers, the groups of the items on either side.
        both: the columns' items are anchors as well, with the rows' as candidates.
        itself: (N,) integers, each row's item among the columns, where both sides are the same
            items; an item makes no pair with itself.
        partner: (N,) integers, each item's partner in its row, where rows are labelled. A partner's
            partner is the item itself.
        same: (N,) booleans, what the label says of an item and its partner.
    """

    rows: Tensor
    columns: Tensor
    both: bool = False
    itself: Tensor | None = None
    partner: Tensor | None = None
    same: Tensor | None = None

    def positive(self, block: slice) -> Tensor:
        """(n, M) booleans for a block of n rows. An item and itself are told apart elsewhere."""
        positive = self.rows[block, None] == self.columns
        if self.partner is not None and self.same is not None:
            places = torch.arange(len(positive), device=positive.device)
            positive[places, self.partner[block]] = self.same[block]
        return positive

    def itself_in(self, block: slice) -> Tensor | None:
        """(n, 1) integers for a block of n rows, or None; see ``itself``."""
        return None if self.itself is None else self.itself[block, None]

    def asked_by(self, chosen: Tensor) -> Pairs:
        """The pairs of some rows alone; no column asks."""
        itself, partner, same = (
            None if of_rows is None else of_rows[chosen]
            for of_rows in (self.itself, self.partner, self.same)
        )
        return Pairs(self.rows[chosen], self.columns, False, itself, partner, same)


class Side(NamedTuple):
    """(N, D) embeddings of anchors, (M, D) of candidates, in float32 at least, and their pairs."""

    anchors: Tensor
    candidates: Tensor
    pairs: Pairs


def matched(embeddings: Mapping[str, Tensor], targets: Targets, pool: bool) -> list[Side]:
    """Who is compared with whom.

    Where all items of two columns are anchors there is one side, which goes both ways, so that
    their similarities are made once. Where some are candidates alone, each way has a side of its
    own, with its anchors and no others.

    Args:
        embeddings: of one column, which is then compared with itself, or of two.
        pool: items of two columns are put together and compared with one another, and not only
            those of one column with those of the other.
    """
    vectors = list(embeddings.values())
    groups = [targets.groups[name] for name in embeddings]
    same, anchors = targets.same, targets.anchors
    own = partner = torch.arange(len(vectors[0]), device=vectors[0].device)
    if len(vectors) == 1:
        same = None  # a label is about two columns
    elif pool:
        vectors, groups = [torch.cat(widened(*vectors))], [torch.cat(groups)]
        partner, own = torch.cat([own + len(own), own]), torch.cat([own, own + len(own)])
        same, anchors = (None if rows is None else rows.repeat(2) for rows in (same, anchors))
    a, b = widened(vectors[0], vectors[-1])
    both = len(vectors) == 2
    pairs = Pairs(
        rows=groups[0],
        columns=groups[-1],
        both=both,
        itself=None if both else own,
        partner=None if same is None else partner,
        same=same,
    )
    if anchors is None:
        return [Side(a, b, pairs)]
    chosen = anchors.nonzero()[:, 0]
    sides = [Side(a[chosen], b, pairs.asked_by(chosen))]
    if both:
        turned = replace(pairs, rows=pairs.columns, columns=pairs.rows)
        sides.append(Side(b[chosen], a, turned.asked_by(chosen)))
    return sides


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
    found = []
    for side in sides:
        log_sums, *rest = _Sums.apply(*side, sums, totals)
        found.append(Found(log_sums.unbind(), *rest))
    return found


class _Sums(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, a: Tensor, b: Tensor, pairs: Pairs, sums: Sequence[LogSum], totals: bool
    ) -> tuple[Tensor, ...]:
        ways = 2 if pairs.both else 1  # where the columns ask, they are as many as the rows
        log_sums = a.new_full((len(sums), ways, len(a)), -torch.inf)
        of_positives = a.new_zeros(2, ways, len(a)) if totals else None
        ctx.pairs, ctx.sums, ctx.only = pairs, sums, None
        with exactly(a.device):
            for block in row_blocks(len(a), len(b)):
                tile = _Tile(a, b, pairs, sums, block)
                for found, (t, even) in zip(log_sums, tile.terms, strict=True):
                    found[0, block] = _log_sum(t, 1, even)
                    if pairs.both:
                        part = _log_sum(t, 0, even)
                        found[1] = torch.logaddexp(found[1], part) if block.start else part
                if of_positives is not None:
                    parts = tile.similarities * tile.positive, tile.positive
                    for found, part in zip(of_positives, parts, strict=True):
                        found[0, block] = part.sum(dim=1)
                        if pairs.both:
                            found[1] += part.sum(dim=0)
                if block == slice(0, len(a)):  # no need to make it again
                    ctx.only = tile
        ctx.save_for_backward(a, b, log_sums)
        if of_positives is None:
            return (log_sums,)
        total, count = of_positives
        ctx.mark_non_differentiable(count)
        return log_sums, total, count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        a, b, log_sums = ctx.saved_tensors
        # A sum of nothing has no slope: exp(−∞ − ∞) is 0, where exp(−∞ + ∞) were no number.
        log_sums = log_sums.masked_fill(log_sums.isneginf(), torch.inf)
        of_sums, of_total = grads[0], grads[1] if len(grads) > 1 else None
        shares = of_sums * log_sums.neg().exp()  # over the sums themselves
        grad_a, grad_b = torch.empty_like(a), torch.zeros_like(b)
        with exactly(a.device):
            for block in row_blocks(len(a), len(b)):
                tile = ctx.only or _Tile(a, b, ctx.pairs, ctx.sums, block)
                slope = tile.slope(ctx.pairs.both, of_sums, shares, log_sums, of_total)
                if ctx.only and ctx.pairs.itself is not None and len(a) == len(b):
                    # Then a is b, and one product is enough for both.
                    return (slope + slope.T) @ b, None, None, None, None
                grad_a[block] = slope @ b
                grad_b.addmm_(slope.T, a[block])
        return grad_a, grad_b, None, None, None


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
        self.similarities = a[block] @ b.T
        positive, itself = pairs.positive(block), pairs.itself_in(block)
        self.terms = []
        for term in sums:
            t = term.exponent(self.similarities)
            nothing = 0.0 if (even := is_even(t)) else -torch.inf
            if even:
                t.exp_()
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

    def slope(
        self, both: bool, of_sums: Tensor, shares: Tensor, log_sums: Tensor, of_total: Tensor | None
    ) -> Tensor:
        """The slope of the similarities.

        Args:
            both: the columns have sums as well.
            of_sums: (sums, ways, n), the slopes of the sums.
            shares: those over the sums themselves, which are no logarithms.
            log_sums: the logarithms, ∞ where there was nothing to sum.
            of_total: (ways, n), the slopes of the totals.
        """
        slopes = []
        for k, (term, (t, even)) in enumerate(zip(self.sums, self.terms, strict=True)):
            if even:
                slope = t * self._of_pairs(shares[k], both)
            else:
                slope = (t - log_sums[k, 0, self.block, None]).exp_()
                slope.mul_(of_sums[k, 0, self.block, None])
                if both:
                    slope += (t - log_sums[k, 1]).exp_().mul_(of_sums[k, 1])
            slopes.append(slope.mul_(term.slope(self.similarities)))
        if of_total is not None:
            slopes.append(self.positive * self._of_pairs(of_total, both))
        return sum(slopes[1:], start=slopes[0])

    def _of_pairs(self, slopes: Tensor, both: bool) -> Tensor:
        """What a pair has of its row's, and of its column's if these have sums as well."""
        of_rows = slopes[0, self.block, None]
        return of_rows + slopes[1] if both else of_rows


def _log_sum(t: Tensor, dim: int, even: bool) -> Tensor:
    """log Σ exp of a tile's term."""
    return t.sum(dim=dim).log_() if even else t.logsumexp(dim=dim)
