"""Contrastive loss on all pairs of a batch, at linear memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pydantic
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from msiam.losses.anchors import Column, anchors_first
from msiam.losses.base import Loss, Targets
from msiam.losses.distances import centred, squared_distances, squared_lengths
from msiam.losses.tiles import diagonal, exactly, matches, square_tiles, sums_along
from msiam.registry.options import Options


class BatchContrastiveOptions(Options):
    margin: float = pydantic.Field(
        1.0, gt=0, description="distance beyond which pairs that differ cost nothing"
    )
    halves: bool = pydantic.Field(
        True, description="the paper's factors ½; many PyTorch versions drop them"
    )
    balanced: bool = pydantic.Field(
        True,
        description="pairs that are the same and those that are not weigh alike in a batch; of all "
        "pairs, few are the same",
    )


class BatchContrastive(Loss):
    """½D² for pairs of one group and ½·max(m − D, 0)² for the others, over all pairs of a batch.

    D is the Euclidean distance and m the margin. With two columns, (B, D) each, the B² pairs of an
    item of one and an item of the other; with one column, the B·(B − 1) pairs of two items. Pairs
    of one group (``targets.groups`` are the classes, where there are any) are the same. Where rows
    are labelled, a row's own pair is what its label says. ``balanced``: the mean of both kinds'
    means; else the mean over all pairs. A batch without pairs costs 0.

    Of rows that ``targets.anchors`` leaves out, the pairs with an anchor count, on either side.

    Paper: Hadsell, Chopra and LeCun, Dimensionality Reduction by Learning an Invariant Mapping,
    CVPR 2006; contrastive has the pairs of rows alone.
    """

    Options = BatchContrastiveOptions
    columns = (1, 2)
    euclidean = True

    def in_batch(self, columns: int) -> bool:
        return True

    def shares(self, columns: int) -> bool:
        return True

    def forward(self, embeddings: Mapping[str, Tensor], targets: Targets) -> Tensor:
        sides, same, count = anchors_first(embeddings, targets)
        first, last = sides[0], sides[-1]
        own = targets.own(count)
        blocks = [_Pairs(first.part(0, own), last, None if len(sides) == 1 else same[:own])]
        if len(sides) == 2 and count < len(same):
            rest = first.part(count, len(same))
            blocks.append(_Pairs(last.part(0, own), rest, None, paired=False))
        alike = targets.total(torch.stack([pairs.alike for pairs in blocks]).sum())
        number = alike.new_tensor(targets.total(sum(pairs.number for pairs in blocks)))
        if self.options.balanced:
            counts = torch.stack([alike, number - alike])
            weights = 1 / (counts.clamp(min=1) * (counts > 0).sum().clamp(min=1))
        else:
            weights = (1 / number.clamp(min=1)).expand(2)
        weights = weights * (0.5 if self.options.halves else 1.0)
        return torch.stack([pairs.cost(weights, self.options.margin) for pairs in blocks]).sum()


class _Pairs:
    """All pairs of a row of one side and a row of the other.

    Attributes:
        same: (N,) booleans where rows of the same place are a pair of their own; None where they
            are one and the same item, which makes no pair.
        paired: else, a place says nothing.
    """

    def __init__(
        self, rows: Column, columns: Column, same: Tensor | None, paired: bool = True
    ) -> None:
        self.rows, self.columns, self.same, self.paired = rows, columns, same, paired
        self.within = paired and same is None
        self.number = len(rows.groups) * (len(columns.groups) - self.within)
        #: A pair of two items stands on either side of the diagonal.
        self.mirrored = self.within and len(rows.groups) == len(columns.groups)

    @property
    def alike(self) -> Tensor:
        """How many pairs are the same."""
        ga, gb = self.rows.groups, self.columns.groups
        alike = matches(ga, gb).sum()
        if self.within:
            return alike - len(ga)
        if self.same is not None:
            return alike - (ga == gb[: len(ga)]).sum() + self.same.sum()
        return alike

    def tiles(self) -> Iterator[tuple[tuple[slice, slice], int]]:
        """Tiles of all pairs, and how often each counts."""
        for i, j in square_tiles(len(self.rows.groups), len(self.columns.groups)):
            if not self.mirrored or i.start <= j.start:
                yield (i, j), 1 + (self.mirrored and i.start < j.start)

    def known(self, tile: tuple[slice, slice]) -> Tensor:
        """(n, m) booleans: which pairs of a tile are the same."""
        known = self.rows.groups[tile[0], None] == self.columns.groups[tile[1]]
        if self.paired:
            offset, crossed = diagonal(tile)
            own = known.diagonal(offset)
            own.zero_() if self.same is None else own.copy_(self.same[crossed])
        return known

    def cost(self, weights: Tensor, margin: float) -> Tensor:
        """The sum over the pairs, the same times one weight and the others times the other."""
        return _Cost.apply(self.rows.vectors, self.columns.vectors, self, weights, margin)


class _Cost(torch.autograd.Function):
    """A pair's slope depends on that pair alone: the gradients are made in the forward pass.

    A distance |a − b| moves a and b along a − b, so that a tile's gradients are two products of its
    slopes with the embeddings.
    """

    @staticmethod
    def forward(
        ctx: Any, a: Tensor, b: Tensor, pairs: _Pairs, weights: Tensor, margin: float
    ) -> Tensor:
        moved = any(ctx.needs_input_grad[:2])
        a, b = centred(a, b)
        of_a = squared_lengths(a)
        lengths = of_a, of_a if a is b else squared_lengths(b)
        pull, push = weights.to(a.dtype)
        total = a.new_zeros(())
        grad_a, grad_b = (torch.zeros_like(x if moved else x[:0]) for x in (a, b))
        with exactly(a.device):
            for tile, times in pairs.tiles():
                i, j = tile
                known = pairs.known(tile)
                squared = squared_distances(a[i], b[j], (lengths[0][i], lengths[1][j]), sharp=True)
                distance = squared.sqrt()
                short = (margin - distance).clamp_(min=0).masked_fill_(known, 0)
                if pairs.within:
                    short.diagonal(diagonal(tile)[0]).zero_()
                cost = pull * squared.mul_(known).sum() + push * short.pow(2).sum()
                total += times * cost
                if not moved:
                    continue
                slope = short.div_(distance).masked_fill_(distance == 0, 0).mul_(-2 * times * push)
                slope.masked_fill_(known, 2 * times * pull)
                if pairs.mirrored and i == j:  # then a is b, and the slopes are as their mirror
                    slope.mul_(2)
                else:
                    grad_b[j] += sums_along(slope, 0)[:, None] * b[j]
                    grad_b[j].addmm_(slope.T, a[i], alpha=-1)
                grad_a[i] += sums_along(slope, 1)[:, None] * a[i]
                grad_a[i].addmm_(slope, b[j], alpha=-1)
        ctx.save_for_backward(grad_a, grad_b)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return *(grads[0] * slope for slope in ctx.saved_tensors), None, None, None
