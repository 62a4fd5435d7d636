"""Positives and negatives by group, over all pairs of a batch, in memory that grows with B alone.

Supervised contrastive, multi-similarity and circle loss are made of one thing: of each anchor, the
log-sum-exp over its positives, its negatives or both. Several of them are kept at once while the
similarity matrix is walked in blocks of rows, by rows and by columns; the backward pass makes each
block again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from msiam.losses.base import Targets
from msiam.losses.tiles import exactly, row_blocks, widened


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
        """(n,) integers for a block of n rows, or None; see ``itself``."""
        return None if self.itself is None else self.itself[block]

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

    def exponents(self, similarities: Tensor, positive: Tensor, itself: Tensor | None) -> Tensor:
        """The exponents of a block of rows, −∞ for the pairs that are not summed."""
        exponents = self.exponent(similarities)
        if self.over != "all":
            exponents.masked_fill_(~positive if self.over == "positives" else positive, -torch.inf)
        if itself is not None:
            exponents.scatter_(1, itself[:, None], -torch.inf)
        return exponents


@dataclass(frozen=True)
class Found:
    """What was summed up for the anchors that meet candidates in one way, (n,) each.

    Attributes:
        log_sums: a tensor for each sum, −∞ where there is nothing to sum.
        total, count: of the similarities of their positives, the sum, and how many they are;
            where it was asked for.
    """

    log_sums: list[Tensor]
    total: Tensor | None = None
    count: Tensor | None = None


def sums_over(sides: Sequence[Side], sums: Sequence[LogSum], totals: bool = False) -> list[Found]:
    """Several sums of each anchor: for the rows of a side, then for its columns if they ask too."""
    found = []
    for side in sides:
        flat = _Sums.apply(*side, sums, totals)
        ways, width = (2 if side.pairs.both else 1), len(sums)
        for way in range(ways):
            own = list(flat[way::ways])
            found.append(Found(own[:width], *own[width:]))
    return found


class _Sums(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, a: Tensor, b: Tensor, pairs: Pairs, sums: Sequence[LogSum], totals: bool
    ) -> tuple[Tensor, ...]:
        of_rows = [a.new_empty(len(a)) for _ in (*sums, *"tc"[: 2 * totals])]
        of_columns = [a.new_full((len(b),), -torch.inf) for _ in sums]
        of_columns += [b.new_zeros(len(b)) for _ in of_rows[len(sums) :]]
        ctx.pairs, ctx.sums, ctx.only = pairs, sums, None
        with exactly(a.device):
            for block in row_blocks(len(a), len(b)):
                tile = _tile(a, b, pairs, sums, totals, block)
                for k, t in enumerate(tile.exponents):
                    of_rows[k][block] = t.logsumexp(dim=1)
                    if pairs.both:
                        of_columns[k] = torch.logaddexp(of_columns[k], t.logsumexp(dim=0))
                if tile.positive is not None:
                    parts = (tile.similarities * tile.positive, tile.positive)
                    for k, part in enumerate(parts, start=len(sums)):
                        of_rows[k][block] = part.sum(dim=1)
                        if pairs.both:
                            of_columns[k] += part.sum(dim=0)
                if block == slice(0, len(a)):  # no need to make it again
                    ctx.only = tile
        ways = [of_rows, of_columns] if pairs.both else [of_rows]
        flat = tuple(found for each in zip(*ways, strict=True) for found in each)
        ctx.save_for_backward(a, b, *flat)
        ctx.totals = totals
        ctx.mark_non_differentiable(*flat[len(ways) * (len(sums) + 1) :])
        return flat

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        a, b, *flat = ctx.saved_tensors
        pairs, ways = ctx.pairs, 2 if ctx.pairs.both else 1
        # A sum of nothing has no slope: exp(−∞ − ∞) is 0, where exp(−∞ + ∞) were no number.
        flat = [found.masked_fill(found.isneginf(), torch.inf) for found in flat]
        grad_a, grad_b = torch.empty_like(a), torch.zeros_like(b)
        with exactly(a.device):
            for block in row_blocks(len(a), len(b)):
                tile = ctx.only or _tile(a, b, pairs, ctx.sums, ctx.totals, block)
                slopes = []
                for k, (term, t) in enumerate(zip(ctx.sums, tile.exponents, strict=True)):
                    rows, g = flat[ways * k], grads[ways * k]
                    share = (t - rows[block, None]).exp_().mul_(g[block, None])
                    if pairs.both:
                        of_columns, g = flat[ways * k + 1], grads[ways * k + 1]
                        share += (t - of_columns).exp_().mul_(g)
                    slopes.append(share.mul_(term.slope(tile.similarities)))
                if tile.positive is not None:
                    of_total = grads[ways * len(ctx.sums) :]
                    g = of_total[0][block, None]
                    slopes.append(tile.positive * (g + of_total[1] if pairs.both else g))
                slope = sum(slopes[1:], start=slopes[0])
                if ctx.only and pairs.itself is not None and len(a) == len(b):
                    # Then a is b, and one product is enough for both.
                    return (slope + slope.T) @ b, None, None, None, None
                grad_a[block] = slope @ b
                grad_b.addmm_(slope.T, a[block])
        return grad_a, grad_b, None, None, None


class _Tile(NamedTuple):
    """Some rows of the matrix: similarities, the exponents of each sum, and where it was asked
    for, 1 at the positives and 0 elsewhere; (n, M) each."""

    similarities: Tensor
    exponents: list[Tensor]
    positive: Tensor | None


def _tile(
    a: Tensor, b: Tensor, pairs: Pairs, sums: Sequence[LogSum], totals: bool, block: slice
) -> _Tile:
    s, positive, itself = a[block] @ b.T, pairs.positive(block), pairs.itself_in(block)
    exponents = [term.exponents(s, positive, itself) for term in sums]
    if not totals:
        return _Tile(s, exponents, None)
    kept = positive.to(s.dtype)
    if itself is not None:
        kept.scatter_(1, itself[:, None], 0)
    return _Tile(s, exponents, kept)
