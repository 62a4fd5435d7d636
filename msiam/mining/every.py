"""Batch-all: every negative of every pair, without a list of the triplets."""

from __future__ import annotations

from typing import Literal

import pydantic
import torch
from torch import Tensor, nn

from msiam.mining.batch import Hard
from msiam.mining.blocks import Block
from msiam.mining.triplets import Price, Weighed, many
from msiam.registry.options import Options


class AllOptions(Options):
    negatives: Literal["all", "semi_hard", "hard"] = pydantic.Field(
        "all",
        description="semi_hard: those farther than the positive, and by less than the margin; "
        "hard: those nearer",
    )


class All(Hard):
    """Every candidate of another group, exactly, in O(B² log B) time and O(B · chunk) memory.

    The triplets are never listed. An anchor's negatives are sorted once; those that cost something
    beside a positive at distance d are the ones before d + margin, which a binary search finds.
    Prefix sums over the sorted distances give their cost, and their slopes, all −1, are summed up
    over the positives as differences at the ends of each stretch. A soft margin is no sum of that
    kind, and takes O(B² · P) time for P positives an anchor, in the same memory.

    A loss that cannot take every negative gets the nearest.

    Paper: Hermans, Beyer and Leibe, In Defense of the Triplet Loss for Person Re-Identification,
    2017, who average over the triplets that cost something.
    """

    Options = AllOptions
    positives = "all"
    every = True

    def weigh(self, block: Block, numbers: Tensor, there: Tensor, price: Price) -> Weighed:
        distance = price.of(block.squared)
        near = distance.gather(1, numbers)
        far = block.fill_known(distance, torch.inf)
        if price.margin is None:
            return self._soft(near, far, numbers, there)
        return self._hinge(near, far, numbers, there, price.margin)

    def _hinge(
        self, near: Tensor, far: Tensor, numbers: Tensor, there: Tensor, margin: float
    ) -> Weighed:
        ranked, order = far.sort(dim=1)
        negatives = (ranked < torch.inf).sum(dim=1, keepdim=True)
        reach = (near + margin).masked_fill_(~there, -torch.inf)
        stop = torch.searchsorted(ranked, reach)
        start, count = torch.zeros_like(stop), (negatives * there).sum()
        if self.options.negatives == "semi_hard":
            start = torch.searchsorted(ranked, near, right=True).minimum(stop)
        elif self.options.negatives == "hard":
            stop = torch.searchsorted(ranked, near).minimum(stop)
        costly = stop - start
        if self.options.negatives != "all":
            count = costly.sum()

        exact = many(far.device)
        sums = ranked.to(exact).masked_fill_(ranked == torch.inf, 0).cumsum(dim=1)
        sums = nn.functional.pad(sums, (1, 0))  # sums[:, k]: of the k nearest
        reach = reach.masked_fill_(~there, 0).to(exact)
        cost = (costly * reach).sum() - (sums.gather(1, stop) - sums.gather(1, start)).sum()

        ends = torch.zeros_like(nn.functional.pad(far, (0, 1)))
        ends.scatter_add_(1, start, there.to(far.dtype))
        ends.scatter_add_(1, stop, -there.to(far.dtype))
        slope = torch.empty_like(far).scatter_(1, order, -ends.cumsum(dim=1)[:, :-1])
        slope.scatter_add_(1, numbers, costly.to(far.dtype))
        return Weighed(cost, count, costly.sum(), slope)

    def _soft(self, near: Tensor, far: Tensor, numbers: Tensor, there: Tensor) -> Weighed:
        slope = torch.zeros_like(far)
        cost = torch.zeros((), dtype=many(far.device), device=far.device)
        count = torch.zeros((), dtype=torch.int64, device=far.device)
        for place in range(numbers.shape[1]):
            one = near[:, place, None]
            taken = there[:, place, None] & (far < torch.inf)
            if self.options.negatives != "all":
                taken &= far > one if self.options.negatives == "semi_hard" else far < one
            nearer = (one - far).masked_fill_(~taken, -torch.inf)
            cost += nn.functional.softplus(nearer).sum(dtype=cost.dtype)
            count += taken.sum()
            steep = nearer.sigmoid_()
            slope -= steep
            slope.scatter_add_(1, numbers[:, place, None], steep.sum(dim=1, keepdim=True))
        return Weighed(cost, count, count, slope)
