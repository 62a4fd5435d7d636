"""Items against one learnt vector of each class, in memory that grows with their numbers alone.

The matrix of cosines is walked in blocks of classes, of which there may be 100,000: a block's
vectors are brought to length 1, compared with all items and, in the backward pass, compared again.
No matrix of items by classes lives, nor any of classes by width but the vectors' own gradient.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from msiam.losses.tiles import (
    LEVEL,
    added,
    exactly,
    exp_,
    log,
    log_sums_along,
    part,
    row_blocks,
    row_sums,
    sums_along,
)


def class_sums(
    items: Tensor,
    weights: Tensor,
    labels: Tensor,
    scale: float,
    of: Literal["items", "classes"],
) -> tuple[Tensor, Tensor]:
    """Of each item the cosine with its class, and log Σ exp(scale · cosine) over other classes.

    Args:
        items: (N, D) in float32 or wider, and of any length, as are the weights.
        weights: (C, D), a vector of each class.
        labels: (N,) below C, each item's class.
        of: what is summed up: of each item the classes but its own, or of each class the items of
            other classes.

    Returns:
        (N,) cosines, and the sums, (N,) or (C,), −∞ where there is nothing to sum.
    """
    return _ClassSums.apply(items, weights, labels, scale, of)


class _ClassSums(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, items: Tensor, weights: Tensor, labels: Tensor, scale: float, of: str
    ) -> tuple[Tensor, Tensor]:
        units, lengths = _units(items)
        blocks = list(row_blocks(len(weights), len(units)))
        level = scale <= LEVEL  # then exp can neither overflow nor vanish
        cosines, sums = None, units.new_empty(len(units if of == "items" else weights))
        with exactly(units.device):
            for block in blocks:
                tile = _Tile(units, weights, labels, block, scale)
                own = tile.replace(tile.s, -torch.inf)
                cosines = own if cosines is None else cosines + own
                s = exp_(tile.s) if level else tile.s
                dim = 0 if of == "items" else 1
                some = log(sums_along(s, dim)) if level else log_sums_along(s, dim)
                if of == "items":
                    sums = added(sums, slice(None), some, block.start)
                else:
                    sums = added(sums, block, some, 0)
        assert cosines is not None  # of no class, there is no loss
        ctx.save_for_backward(units, lengths, weights, labels, sums)
        ctx.scale, ctx.of, ctx.blocks, ctx.level = scale, of, blocks, level
        ctx.only = tile if len(blocks) == 1 else None  # a block of them all is kept
        return cosines.div_(scale), sums

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        units, lengths, weights, labels, sums = ctx.saved_tensors
        of_cosines, of_sums = grads[0][None], grads[1] * ctx.scale
        grad_items = None if ctx.only else torch.zeros_like(units)
        grad_weights = None if ctx.only else torch.empty_like(weights)
        with exactly(units.device):
            for block in ctx.blocks:
                tile = ctx.only or _Tile(units, weights, labels, block, ctx.scale)
                place = slice(None) if ctx.of == "items" else (block, None)
                if ctx.level:
                    s = tile.s if ctx.only else exp_(tile.s)
                    slope = s * (of_sums * exp_(-sums))[place]
                else:
                    slope = exp_(tile.s - sums[place]).mul_(of_sums[place])
                # Where there is nothing to sum, all entries are own ones, and their NaN goes too.
                tile.replace(slope, of_cosines)
                of_tile = _across(slope @ units, tile.units, tile.lengths)
                if grad_items is None or grad_weights is None:
                    grad_items, grad_weights = slope.T @ tile.units, of_tile
                else:
                    grad_items.addmm_(slope.T, tile.units)
                    grad_weights[block] = of_tile
            assert grad_items is not None
            return _across(grad_items, units, lengths), grad_weights, None, None, None


class _Tile:
    """A block of c classes against all items.

    Attributes:
        s: (c, N), their cosines times the scale.
        units, lengths: (c, D) and (c, 1), the classes' vectors at length 1, and how long they were.
    """

    def __init__(
        self, items: Tensor, weights: Tensor, labels: Tensor, block: slice, scale: float
    ) -> None:
        self.units, self.lengths = _units(part(weights, block).to(items.dtype))
        self.s = (self.units @ items.T).mul_(scale)
        self._row, self._inside = labels[None], None
        if len(self.units) < len(weights):
            place = self._row - block.start
            self._row = place.clamp(0, len(self.units) - 1)
            self._inside = self._row == place

    def replace(self, matrix: Tensor, values: Tensor | float) -> Tensor:
        """Set the entries of items and their own classes; (N,), what they were, or 0 if not here.

        An item whose class is in another block has one entry set to what it is.
        """
        old = matrix.gather(0, self._row)
        if self._inside is None:
            matrix.scatter_(0, self._row, values)
            return old[0]
        matrix.scatter_(0, self._row, torch.where(self._inside, values, old))
        return old.where(self._inside, 0)[0]


def _units(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Vectors at length 1, and their lengths, (n, 1)."""
    lengths = torch.linalg.vector_norm(vectors, dim=1, keepdim=True).clamp_(min=1e-12)
    return vectors / lengths, lengths


def _across(slope: Tensor, units: Tensor, lengths: Tensor) -> Tensor:
    """The slope of vectors from that of their units; what points along them only lengthens.

    It takes the place of the slope that is given.
    """
    along = row_sums(slope * units)[:, None]
    return slope.addcmul_(along, units, value=-1).div_(lengths)
