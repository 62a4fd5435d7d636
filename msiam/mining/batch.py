"""Miners: which of a batch's items to take as negatives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal

import pydantic
import torch
from torch import Tensor

from msiam.mining.blocks import Block, Pool, Positives
from msiam.mining.triplets import Price, Weighed, cost_of_chosen, total_cost
from msiam.registry.options import Options


class Miner(ABC):
    """Chooses negatives for anchors. It works without gradient, on detached embeddings.

    ``choose`` is all that a miner must have. One that needs to know the positive, or that takes
    several negatives, has ``pick`` as well, which is then what the triplet loss goes by.
    """

    Options: ClassVar[type[Options]] = Options
    #: The positives that its choice is made for, where rows are no pairs that say it.
    positives: ClassVar[Literal["hardest", "all"]] = "hardest"
    #: Whether it takes every negative, so that there is nothing to choose.
    every: ClassVar[bool] = False
    #: Whether it draws at random. Several processes then each draw for all anchors, as one would.
    draws: ClassVar[bool] = False

    def __init__(self, options: Any) -> None:
        self.options = options

    @abstractmethod
    def choose(
        self, anchors: Tensor, candidates: Tensor, anchor_groups: Tensor, candidate_groups: Tensor
    ) -> Tensor:
        """The number of the chosen candidate for each anchor, or −1 where there is none.

        Args:
            anchors: (A, D) embeddings.
            candidates: (N, D) embeddings.
            anchor_groups, candidate_groups: (A,) and (N,); a candidate of the anchor's own group
                is never a negative.

        Returns:
            (A,) integers.
        """

    def pick(self, block: Block, near: Tensor) -> Tensor:
        """The chosen candidates for each of an anchor's P positives; −1: none.

        Args:
            block: r anchors, and the N candidates that they meet.
            near: (r, P), the squared distance of each positive.

        Returns:
            (r, P) integers, or (r, P, K) for K negatives each. Unless told otherwise, the one
            that ``choose`` gives, whatever the positive.
        """
        chosen = self.choose(
            block.anchors, block.candidates, block.anchor_groups, block.candidate_groups
        )
        return chosen[:, None].expand_as(near)

    # What the triplet loss asks. Its layer is below this one, so that it knows no functions here.

    def total(
        self, pool: tuple[Any, ...], positives: Positives, distance: str, margin: float | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What all triplets cost, how many they are, and how many of them cost something.

        Args:
            pool: what a ``Pool`` is made of, in its order.
            margin: None for a soft one.

        Returns:
            Scalars, of which the first is differentiable.
        """
        return total_cost(self, pool, positives, Price(distance, margin))

    def weigh(self, block: Block, numbers: Tensor, there: Tensor, price: Price) -> Weighed:
        """The costs of a block, for positives as ``Block.positives`` gives them."""
        picked = self.pick(block, block.squared.gather(1, numbers))
        return cost_of_chosen(block, numbers, there, picked, price)


class BlockMiner(Miner):
    """A miner whose choice is made from a block of the distance matrix; none of it is kept."""

    @torch.no_grad()
    def choose(
        self, anchors: Tensor, candidates: Tensor, anchor_groups: Tensor, candidate_groups: Tensor
    ) -> Tensor:
        chosen = torch.full((len(anchors),), -1, device=anchors.device)
        pool = Pool(anchors.detach(), candidates.detach(), anchor_groups, candidate_groups)
        for block in pool.blocks(size=4):
            nowhere = block.squared.new_zeros(len(block.squared), 1)
            chosen[block.rows] = self.pick(block, nowhere).flatten(1)[:, 0]
        return chosen

    @abstractmethod
    def pick(self, block: Block, near: Tensor) -> Tensor: ...


class Hard(BlockMiner):
    """The nearest candidate of another group (Hermans, Beyer and Leibe, 2017)."""

    def pick(self, block: Block, near: Tensor) -> Tensor:
        # By the mask, not by the distance: embeddings that have become NaN still get a
        # negative, so that the loss is NaN as well and training stops.
        nearest = block.far.argmin(dim=1).masked_fill_(block.barren, -1)
        return nearest[:, None].expand_as(near)


class HardestKOptions(Options):
    k: int = pydantic.Field(5, gt=0, description="how many negatives each anchor gets")


class HardestK(BlockMiner):
    """The k nearest candidates of other groups, or all of them where there are fewer."""

    Options = HardestKOptions

    def pick(self, block: Block, near: Tensor) -> Tensor:
        k = min(self.options.k, block.far.shape[1])
        far, nearest = block.far.topk(k, dim=1, largest=False)
        nearest.masked_fill_(far == torch.inf, -1)
        return nearest[:, None].expand(-1, near.shape[1], -1)


class SemiHard(BlockMiner):
    """The nearest candidate of another group that is farther than the positive.

    FaceNet (Schroff, Kalenichenko and Philbin, 2015) calls such negatives semi-hard, and does not
    say what to take where there is none. Taken then is the farthest negative, the least hard of
    those nearer than the positive, as in TensorFlow's ``triplet_semihard_loss``. Where no positive
    is known, any distance above zero is farther.
    """

    positives = "all"

    def pick(self, block: Block, near: Tensor) -> Tensor:
        if near.shape[1] == 1:  # no need to sort
            beyond, nearest = block.far.masked_fill(block.far <= near, torch.inf).min(dim=1)
            farthest = block.fill_known(block.squared, -torch.inf).argmax(dim=1)
            picked = nearest.where(beyond < torch.inf, farthest)[:, None]
        else:
            ranked, order = block.far.sort(dim=1)
            last = block.negatives[:, None] - 1
            place = torch.searchsorted(ranked, near.contiguous(), right=True).minimum(last)
            picked = order.gather(1, place.clamp(min=0))
        return picked.masked_fill(block.barren[:, None], -1)


class DistanceWeightedOptions(Options):
    least: float = pydantic.Field(
        0.5, gt=0, lt=2, description="nearer candidates are as likely as those at this distance"
    )
    most: float = pydantic.Field(
        1.4, gt=0, description="farther candidates are taken only where there are no others"
    )


class DistanceWeighted(BlockMiner):
    """A candidate of another group, drawn so that all distances are alike likely (Wu et al. 2017).

    Random points on the sphere in n dimensions lie at distance d with density q(d) ∝ dⁿ⁻² ·
    (1 − d²/4)⁽ⁿ⁻³⁾ᐟ², nearly all of them around √2. A candidate at d is drawn with a probability
    proportional to 1 / q(d), so that near ones are seen as often as those. ``least`` and ``most``
    are the bounds of the authors' code: below, the gradient is noise; above, a margin loss is
    zero. Where all lie above, each is as likely. For embeddings of length 1.

    Paper: Sampling Matters in Deep Embedding Learning, ICCV 2017.
    """

    Options = DistanceWeightedOptions
    positives = "all"
    draws = True

    def pick(self, block: Block, near: Tensor) -> Tensor:
        width = block.candidates.shape[1]
        squared = block.squared.clamp(self.options.least**2, 4 - 1e-4)
        weight = (2 - width) / 2 * squared.log() - (width - 3) / 2 * torch.log1p(-squared / 4)
        beyond = block.known | (block.squared > self.options.most**2)
        none = beyond.all(dim=1, keepdim=True)  # then, all negatives alike
        weight = weight.masked_fill_(none, 0).masked_fill_(
            block.known.where(none, beyond), -torch.inf
        )
        weight.masked_fill_(block.barren[:, None], 0)
        drawn = weight.softmax(dim=1).multinomial(near.shape[1], replacement=True)
        return drawn.masked_fill_(block.barren[:, None], -1)
