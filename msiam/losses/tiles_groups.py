"""Positives and negatives by group, over all pairs of a batch, in memory that grows with B alone.

Supervised contrastive, multi-similarity and circle loss are made of one thing: of each anchor, the
log-sum-exp over its positives, its negatives or both. Several of them are kept at once while the
similarity matrix is walked in blocks of rows, by rows and by columns; the backward pass makes each
block again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from msiam.losses.base import Targets
from msiam.losses.tiles import row_blocks, widened


@dataclass(frozen=True)
class Pairs:
    """Which items make a pair, and which pairs are positive.

    A pair of one group is positive. Where rows are labelled, a row's own pair is what its label
    says, whatever the groups say.

    Attributes:
        rows, columns: (N,) and (M,) integers, the groups of the items on either side.
        within: both sides are the same items; an item makes no pair with itself.
        partner: (N,) integers, each item's partner in its row, where rows are labelled. A partner's
            partner is the item itself.
        same: (N,) booleans, what the label says of an item and its partner.
    """

    rows: Tensor
    columns: Tensor
    within: bool = False
    partner: Tensor | None = None
    same: Tensor | None = None

    def positive(self, block: slice) -> Tensor:
        """(n, M) booleans for a block of n rows. An item and itself are told apart elsewhere."""
        positive = self.rows[block, None] == self.columns
        if self.partner is not None and self.same is not None:
            places = torch.arange(len(positive), device=positive.device)
            positive[places, self.partner[block]] = self.same[block]
        return positive


def matched(
    embeddings: Mapping[str, Tensor], targets: Targets, pool: bool
) -> tuple[Tensor, Tensor, Pairs]:
    """Both sides' embeddings, in float32 at least, and their pairs.

    Args:
        embeddings: of one column, which is then compared with itself, or of two.
        pool: items of two columns are put together and compared with one another, and not only
            those of one column with those of the other.
    """
    sides = list(embeddings.values())
    groups = [targets.groups[name] for name in embeddings]
    same, own = targets.same, torch.arange(len(sides[0]), device=sides[0].device)
    if len(sides) == 1:  # a label is about two columns
        a, b = widened(sides[0], sides[0])
        return a, b, Pairs(groups[0], groups[0], within=True)
    a, b = widened(*sides)
    if not pool:
        return a, b, Pairs(groups[0], groups[1], False, None if same is None else own, same)
    items, both = torch.cat([a, b]), torch.cat(groups)
    if same is None:
        return items, items, Pairs(both, both, within=True)
    partner = torch.cat([own + len(own), own])
    return items, items, Pairs(both, both, True, partner, torch.cat([same, same]))


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

    def exponents(self, similarities: Tensor, positive: Tensor, start: int, within: bool) -> Tensor:
        """The exponents of a block of rows, −∞ for the pairs that are not summed."""
        exponents = self.exponent(similarities)
        if self.over != "all":
            exponents.masked_fill_(~positive if self.over == "positives" else positive, -torch.inf)
        if within:
            exponents.diagonal(start).fill_(-torch.inf)
        return exponents


def log_sums(a: Tensor, b: Tensor, pairs: Pairs, sums: Sequence[LogSum]) -> list[list[Tensor]]:
    """Several sums of each anchor, −∞ where there is nothing to sum.

    Args:
        a, b: (N, D) and (M, D), as from :func:`matched`.

    Returns:
        A list for each side whose items are anchors, with a tensor for each sum: (N,) each for the
        rows, and, unless the columns are the same items, (M,) each for the columns.
    """
    flat = _LogSums.apply(a, b, pairs, sums)
    sides = 1 if pairs.within else 2
    return [list(flat[side::sides]) for side in range(sides)]


class _LogSums(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, a: Tensor, b: Tensor, pairs: Pairs, sums: Sequence[LogSum]
    ) -> tuple[Tensor, ...]:
        of_rows = [a.new_empty(len(a)) for _ in sums]
        of_columns = [a.new_full((len(b),), -torch.inf) for _ in sums]
        with torch.autocast(a.device.type, enabled=False):
            for block in row_blocks(len(a), len(b)):
                s, positive = a[block] @ b.T, pairs.positive(block)
                for k, term in enumerate(sums):
                    t = term.exponents(s, positive, block.start, pairs.within)
                    of_rows[k][block] = t.logsumexp(dim=1)
                    if not pairs.within:
                        of_columns[k] = torch.logaddexp(of_columns[k], t.logsumexp(dim=0))
        ctx.pairs, ctx.sums = pairs, sums
        sides = [of_rows] if pairs.within else [of_rows, of_columns]
        flat = tuple(found for each in zip(*sides, strict=True) for found in each)
        ctx.save_for_backward(a, b, *flat)
        return flat

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        a, b, *flat = ctx.saved_tensors
        pairs, sides = ctx.pairs, 1 if ctx.pairs.within else 2
        # A sum of nothing has no slope: exp(−∞ − ∞) is 0, where exp(−∞ + ∞) were no number.
        flat = [found.masked_fill(found.isneginf(), torch.inf) for found in flat]
        grad_a, grad_b = torch.empty_like(a), torch.zeros_like(b)
        with torch.autocast(a.device.type, enabled=False):
            for block in row_blocks(len(a), len(b)):
                s, positive = a[block] @ b.T, pairs.positive(block)
                slope = torch.zeros_like(s)
                for k, term in enumerate(ctx.sums):
                    t = term.exponents(s, positive, block.start, pairs.within)
                    rows, g = flat[sides * k], grads[sides * k]
                    share = (t - rows[block, None]).exp_().mul_(g[block, None])
                    if not pairs.within:
                        share += t.sub_(flat[sides * k + 1]).exp_().mul_(grads[sides * k + 1])
                    slope += share.mul_(term.slope(s))
                grad_a[block] = slope @ b
                grad_b.addmm_(slope.T, a[block])
        return grad_a, grad_b, None, None


def positive_means(a: Tensor, b: Tensor, pairs: Pairs) -> list[tuple[Tensor, Tensor]]:
    """Of each anchor the mean similarity of its positives, and their number; 0 without any.

    The sum over a group of aᵢ·b is aᵢ·(the sum of the group), so that no matrix is needed.

    Returns:
        For each side as in :func:`log_sums`, two tensors: (N,) or (M,).
    """
    size = len(pairs.rows) + len(pairs.columns)
    _, number = torch.cat([pairs.rows, pairs.columns]).unique(return_inverse=True)
    rows, columns = number.split([len(pairs.rows), len(pairs.columns)])
    found = []
    sides = [(a, rows, b, columns), (b, columns, a, rows)]
    for one, of_one, other, of_other in sides[: 1 if pairs.within else 2]:
        sums = other.new_zeros(size, other.shape[1]).index_add(0, of_other, other)
        total = (one * sums.index_select(0, of_one)).sum(dim=1)
        count = of_other.bincount(minlength=size)[of_one]
        if pairs.within:
            total, count = total - (one * one).sum(dim=1), count - 1
        if pairs.partner is not None and pairs.same is not None:
            own = (one * other.index_select(0, pairs.partner)).sum(dim=1)
            change = pairs.same.long() - (of_one == of_other[pairs.partner]).long()
            total, count = total + change * own, count + change
        found.append((total / count.clamp(min=1), count))
    return found
