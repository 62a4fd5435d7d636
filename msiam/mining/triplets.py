"""What the triplets of a batch cost, in memory that grows with the batch and not its square."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from msiam.losses.tiles import widened
from msiam.mining.blocks import Block, Pool, Positives

if TYPE_CHECKING:
    from msiam.mining.batch import Miner


@dataclass(frozen=True)
class Price:
    """What a triplet costs by its two distances.

    Attributes:
        distance: "squared", "euclidean" or "cosine", which for length 1 is half the squared one.
        margin: how much farther the negative must be; None: log(1 + exp(near − far)).
    """

    distance: str
    margin: float | None

    def of(self, squared: Tensor) -> Tensor:
        """Distances by their squares."""
        if self.distance == "euclidean":
            return squared.sqrt()
        return squared / 2 if self.distance == "cosine" else squared

    def outward(self, squared: Tensor) -> Tensor | float:
        """The gradient of a distance by a, as a multiple of a − b; 0 at distance 0."""
        if self.distance == "euclidean":
            return squared.rsqrt().masked_fill(squared == 0, 0)
        return 1.0 if self.distance == "cosine" else 2.0

    def cost(self, nearer: Tensor) -> tuple[Tensor, Tensor]:
        """Of distances near − far the costs and their slopes."""
        if self.margin is None:
            return nn.functional.softplus(nearer), nearer.sigmoid()
        nearer = nearer + self.margin
        return nearer.clamp(min=0), (nearer > 0).to(nearer.dtype)


class Weighed(NamedTuple):
    """The cost of a block's triplets, their number, how many cost something, and the slopes.

    ``slope``, (r, N): the cost's derivative by each distance.
    """

    cost: Tensor
    triplets: Tensor
    costly: Tensor
    slope: Tensor


def many(device: torch.device) -> torch.dtype:
    """The type to sum up many numbers in."""
    return torch.float32 if device.type == "mps" else torch.float64


def cost_of_chosen(
    block: Block, numbers: Tensor, there: Tensor, picked: Tensor, price: Price
) -> Weighed:
    """Each positive with the K negatives that were picked for it."""
    picked = picked.reshape(*numbers.shape, -1)
    distance = price.of(block.squared)
    flat = picked.clamp(min=0).flatten(1)
    near, far = distance.gather(1, numbers), distance.gather(1, flat).view_as(picked)
    kept = there[..., None] & (picked >= 0)
    cost, slope = price.cost(near[..., None] - far)
    cost, slope = cost.masked_fill(~kept, 0), slope.masked_fill(~kept, 0)
    slopes = torch.zeros_like(distance)
    slopes.scatter_add_(1, numbers, slope.sum(dim=2))
    slopes.scatter_add_(1, flat, -slope.flatten(1))
    return Weighed(cost.sum(dtype=many(cost.device)), kept.sum(), (cost > 0).sum(), slopes)


class Listed(NamedTuple):
    """T triplets: numbers of anchors, of positives and of negatives, (T,) each.

    None: all there are, in their order.
    """

    anchors: Tensor | None
    positives: Tensor | None
    negatives: Tensor


def list_triplets(miner: Miner, pool: Pool, positives: Positives) -> Listed:
    """The triplets that a miner picks; T grows with the anchors and not their square."""
    found: list[Tensor] = []
    for block in pool.blocks(size=4):
        numbers, there = block.positives(positives)
        picked = miner.pick(block, block.squared.gather(1, numbers))
        picked = picked.reshape(*numbers.shape, -1).masked_fill(~there[..., None], -1)
        if len(picked) == len(pool.anchors):
            found = [numbers, picked]
            break
        # One tensor for all blocks: many small ones, held between large ones that come and go,
        # keep the allocator from using their places again.
        found = found or [
            part.new_empty(len(pool.anchors), *part.shape[1:]) for part in (numbers, picked)
        ]
        for whole, part in zip(found, (numbers, picked), strict=True):
            whole[block.rows] = part
    if not found:
        nothing = torch.zeros(0, dtype=torch.int64, device=pool.anchors.device)
        return Listed(nothing, nothing, nothing)
    numbers, picked = found
    in_order = positives == "row" and pool.places is None
    if picked[0].numel() == 1 and bool((picked >= 0).all()):
        return Listed(None, None if in_order else numbers[:, 0], picked[:, 0, 0])
    row, slot, place = (picked >= 0).nonzero(as_tuple=True)
    return Listed(row, row if in_order else numbers[row, slot], picked[row, slot, place])


def total_cost(
    miner: Miner, pool: tuple[Any, ...], positives: Positives, price: Price
) -> tuple[Tensor, Tensor, Tensor]:
    """The cost of all triplets, their number, and the number of those that cost something."""
    made = Pool(*pool)
    if miner.every or positives == "all":
        made = replace(made, sharp=price.distance == "euclidean")
        return _TotalCost.apply(made.anchors, made.candidates, made, miner, positives, price)
    with torch.no_grad():
        listed = list_triplets(miner, made, positives)
    return _ListedCost.apply(made.anchors, made.candidates, listed, price)


class _ListedCost(torch.autograd.Function):
    """The gradients are made in the forward pass, from the differences that gave the distances."""

    @staticmethod
    def forward(
        ctx: Any, anchors: Tensor, candidates: Tensor, listed: Listed, price: Price
    ) -> tuple[Tensor, Tensor, Tensor]:
        a, b = widened(anchors, candidates)
        asked = _taken(a, listed.anchors)
        to_near = asked - _taken(b, listed.positives)
        to_far = asked - _taken(b, listed.negatives)
        near, far = (apart.norm(dim=1).square() for apart in (to_near, to_far))
        cost, slope = price.cost(price.of(near) - price.of(far))
        if any(ctx.needs_input_grad[:2]):
            to_near.mul_((slope * price.outward(near))[:, None])
            to_far.mul_((slope * price.outward(far))[:, None])
            grad_b = _by_number(to_far, listed.negatives, len(b))
            grad_b -= _by_number(to_near, listed.positives, len(b))
            to_near -= to_far
            grad_a = _by_number(to_near, listed.anchors, len(a))
            ctx.save_for_backward(grad_a, grad_b)
        count, costly = torch.tensor(len(cost), device=cost.device), (cost > 0).sum()
        ctx.mark_non_differentiable(count, costly)
        return cost.sum(), count, costly

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_a, grad_b = ctx.saved_tensors
        return grad_a * grads[0], grad_b * grads[0], None, None


def _taken(vectors: Tensor, numbers: Tensor | None) -> Tensor:
    return vectors if numbers is None else vectors.index_select(0, numbers)


def _by_number(rows: Tensor, numbers: Tensor | None, count: int) -> Tensor:
    """(count, D) sums of (T, D) rows by their numbers, as in the gradient of a look-up."""
    if numbers is None:
        return rows
    # index_add_ wakes threads at sizes at which that takes thirty times as long.
    return torch.ops.aten.embedding_dense_backward(rows, numbers, count, -1, False)


class _TotalCost(torch.autograd.Function):
    """The gradients are made in the forward pass: a block's slopes are gone after it.

    A triplet's cost changes with its two distances alone, and a distance |a − b| moves a and b
    along a − b, so that a block's gradients are two products of its slopes with the embeddings.
    """

    @staticmethod
    def forward(
        ctx: Any,
        anchors: Tensor,
        candidates: Tensor,
        pool: Pool,
        miner: Miner,
        positives: Positives,
        price: Price,
    ) -> tuple[Tensor, Tensor, Tensor]:
        a, b = pool.centred
        moved = any(ctx.needs_input_grad[:2])
        grad_a, grad_b = (torch.zeros_like(x if moved else x[:0]) for x in (a, b))
        cost = torch.zeros((), dtype=many(a.device), device=a.device)
        count, costly = (torch.zeros((), dtype=torch.int64, device=a.device) for _ in range(2))
        with torch.autocast(a.device.type, enabled=False):
            for block in pool.blocks(size=16):
                numbers, there = block.positives(positives)
                if not numbers.shape[1]:
                    continue
                part = miner.weigh(block, numbers, there, price)
                cost, count, costly = cost + part.cost, count + part.triplets, costly + part.costly
                if moved:
                    push, rows = part.slope.mul_(price.outward(block.squared)), block.rows
                    grad_a[rows] = push.sum(dim=1)[:, None] * a[rows] - push @ b
                    grad_b.add_(push.sum(dim=0)[:, None] * b).addmm_(push.T, a[rows], alpha=-1)
        ctx.save_for_backward(grad_a, grad_b)
        ctx.mark_non_differentiable(count, costly)
        return cost.to(a.dtype), count, costly

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_a, grad_b = ctx.saved_tensors
        return grad_a * grads[0], grad_b * grads[0], *[None] * 4
