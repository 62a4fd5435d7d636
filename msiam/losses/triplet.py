"""Triplet loss on Euclidean or squared distances (Schroff, Kalenichenko and Philbin, 2015)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import pydantic
from torch import Tensor

from msiam.losses.base import Loss, Targets
from msiam.registry import registry
from msiam.registry.options import Options, parse_options


class TripletOptions(Options):
    margin: float = pydantic.Field(0.2, gt=0, description="how much nearer the positive must be")
    distance: Literal["euclidean", "squared"] = pydantic.Field(
        "squared", description="FaceNet's is squared"
    )
    miner: str = pydantic.Field(
        "hard", description="which negatives of the batch to take where there are two columns"
    )


class Triplet(Loss):
    """max(d(anchor, positive) − d(anchor, negative) + margin, 0), averaged over the triplets.

    With three columns, they are anchor, positive and negative; a row whose negative belongs to
    the anchor's group costs nothing. With two, each positive row is an
    anchor with its positive, and a miner picks the negative out of the batch's second column.

    Paper: FaceNet: A Unified Embedding for Face Recognition and Clustering, CVPR 2015.
    """

    Options = TripletOptions
    columns = (2, 3)
    euclidean = True

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        miner = registry().find("miner", options.miner, "loss.miner").load()
        self.miner = miner(parse_options(miner, {}, "loss.miner"))

    def forward(self, embeddings: Mapping[str, Tensor], targets: Targets) -> Tensor:
        anchor, positive, *rest = embeddings.values()
        one, *_, other = list(embeddings)
        kept = targets.positive(len(anchor), anchor.device)
        if rest:  # but those whose negative is known to match through other rows
            kept = kept & (targets.groups[one] != targets.groups[other])
            cost = self._cost(anchor[kept], positive[kept], rest[0][kept])
            return cost.sum() / max(len(cost), 1)
        kept = kept.nonzero().squeeze(1)
        chosen = self.miner.choose(
            anchor[kept].detach(),
            positive.detach(),
            targets.groups[one][kept],
            targets.groups[other],
        )
        kept, chosen = kept[chosen >= 0], chosen[chosen >= 0]
        cost = self._cost(anchor[kept], positive[kept], positive[chosen])
        return cost.sum() / max(len(kept), 1)

    def _cost(self, anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        near = self._distance(anchor - positive)
        far = self._distance(anchor - negative)
        return (near - far + self.options.margin).clamp(min=0)

    def _distance(self, apart: Tensor) -> Tensor:
        if self.options.distance == "squared":
            return apart.pow(2).sum(dim=1)
        return apart.norm(dim=1)
