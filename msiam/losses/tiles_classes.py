"""Items against one learnt vector of each class, in memory that grows with their numbers alone.

The matrix of similarities is walked in blocks of classes, of which there may be 100,000: a block's
vectors are brought to length 1, compared with all items and, in the backward pass, compared again.
No matrix of items by classes lives, nor a second one of classes by width but for the gradient.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from msiam.losses.tiles import row_blocks


def class_sums(
    items: Tensor,
    weights: Tensor,
    labels: Tensor,
    scale: float,
    of: Literal["items", "classes"],
) -> tuple[Tensor, Tensor]:
    """Of each item the cosine with its class, and log Σ exp(scale · cosine) over other classes.

    Args:
        items: (N, D) of length 1, in float32 or wider.
        weights: (C, D), a vector of each class, of any length.
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
        sums = items.new_full((len(items if of == "items" else weights),), -torch.inf)
        with torch.autocast(items.device.type, enabled=False):
            units, _ = _units(weights[labels].to(items.dtype))
            cosines = (items * units).sum(dim=1)
            for block in row_blocks(len(weights), len(items)):
                units, _ = _units(weights[block].to(items.dtype))
                s = (units * scale) @ items.T
                s.masked_fill_(_own(labels, block), -torch.inf)
                if of == "items":
                    sums = torch.logaddexp(sums, s.logsumexp(dim=0))
                else:
                    sums[block] = s.logsumexp(dim=1)
        ctx.save_for_backward(items, weights, labels, sums)
        ctx.scale, ctx.of = scale, of
        return cosines, sums

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        items, weights, labels, sums = ctx.saved_tensors
        of_cosines, of_sums = grads[0], grads[1] * ctx.scale
        # A sum of nothing has no slope: exp(−∞ − ∞) is 0, where exp(−∞ + ∞) were no number.
        sums = sums.masked_fill(sums.isneginf(), torch.inf)
        grad_items, grad_weights = torch.zeros_like(items), torch.empty_like(weights)
        with torch.autocast(items.device.type, enabled=False):
            for block in row_blocks(len(weights), len(items)):
                units, lengths = _units(weights[block].to(items.dtype))
                s = (units * ctx.scale) @ items.T
                if ctx.of == "items":
                    slope = s.sub_(sums).exp_().mul_(of_sums)
                else:
                    slope = s.sub_(sums[block, None]).exp_().mul_(of_sums[block, None])
                slope = of_cosines.where(_own(labels, block), slope)
                grad_items.addmm_(slope.T, units)
                along = slope @ items
                # What of the slope points along a vector only makes it longer, and is left out.
                along -= (along * units).sum(dim=1, keepdim=True) * units
                grad_weights[block] = (along / lengths).to(weights.dtype)
        return grad_items, grad_weights, None, None, None


def _units(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Vectors at length 1, and their lengths, (c, 1)."""
    lengths = vectors.norm(dim=1, keepdim=True).clamp(min=1e-12)
    return vectors / lengths, lengths


def _own(labels: Tensor, block: slice) -> Tensor:
    """(c, N) booleans: which items are of which class of a block."""
    return torch.arange(block.start, block.stop, device=labels.device)[:, None] == labels
