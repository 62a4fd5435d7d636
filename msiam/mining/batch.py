"""Miners: which of a batch's items to take as negatives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor

from msiam.losses.tiles import row_blocks
from msiam.registry.options import Options


class Miner(ABC):
    """Chooses a negative for each anchor. It works without gradient, on detached embeddings."""

    Options: ClassVar[type[Options]] = Options

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


class Hard(Miner):
    """The nearest candidate of another group (Hermans, Beyer and Leibe, 2017).

    It looks at a block of rows of the distance matrix at a time and keeps none of it.
    """

    @torch.no_grad()
    def choose(
        self, anchors: Tensor, candidates: Tensor, anchor_groups: Tensor, candidate_groups: Tensor
    ) -> Tensor:
        chosen = anchor_groups.new_full((len(anchors),), -1)
        if len(candidates) == 0:
            return chosen
        for block in row_blocks(len(anchors), len(candidates)):
            distance = torch.cdist(anchors[block].float(), candidates.float())
            known = anchor_groups[block, None] == candidate_groups
            nearest = distance.masked_fill_(known, torch.inf).argmin(dim=1)
            # By the mask, not by the distance: embeddings that have become NaN still get a
            # negative, so that the loss is NaN as well and training stops.
            chosen[block] = nearest.masked_fill_(known.all(dim=1), -1)
        return chosen
