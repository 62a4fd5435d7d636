"""Circle loss (Sun et al., 2020), across two columns and within one."""

from __future__ import annotations

from collections.abc import Mapping

import pydantic
from torch import Tensor, nn

from msiam.losses.anchors import Pooled
from msiam.losses.base import Loss, Targets
from msiam.losses.sides import matched
from msiam.losses.tiles_groups import LogSum, mean_of, sums_over
from msiam.registry.options import Options


class CircleOptions(Options):
    margin: float = pydantic.Field(
        0.4, gt=0, lt=1, description="positives should pass 1 - margin, negatives stay below margin"
    )
    scale: float = pydantic.Field(
        80.0, gt=0, description="the higher, the more the hardest pairs count; the paper's gamma"
    )
    pool: Pooled = False


class Circle(Loss):
    """Pairs are pulled and pushed the harder, the farther they are from where they should be.

    log(1 + Σ_n exp(γ·αₙ·(sᵢₙ − m)) · Σ_p exp(−γ·αₚ·(sᵢₚ − 1 + m))) for an anchor i, averaged over
    the items with a positive, with s the inner products, m the margin, γ the scale, and the weights
    αₚ = max(1 + m − s, 0) and αₙ = max(s + m, 0). The weights are taken as given: no gradient goes
    through them, as in the paper and its implementations. Positives p are the items of the anchor's
    group, negatives n all others. An item without positives or without negatives costs nothing.
    Margin and weights are made for embeddings of length 1.

    With two columns, (B, D) each, rows of one have the other's rows as candidates, in both
    directions, which weigh ½ each; with ``pool``, all 2·B items are each other's candidates. With
    one column, its items are.

    Where rows are labelled, the two items of a row are positives if they are labelled the same and
    negatives if not, whatever the groups say.

    Paper: Sun et al., Circle Loss: A Unified Perspective of Pair Similarity Optimization,
    CVPR 2020.
    """

    Options = CircleOptions
    columns = (1, 2)

    def in_batch(self, columns: int) -> bool:
        return True

    def shares(self, columns: int) -> bool:
        return True

    def forward(self, embeddings: Mapping[str, Tensor], targets: Targets) -> Tensor:
        sides = matched(embeddings, targets, self.options.pool)
        margin, scale = self.options.margin, self.options.scale

        def pull(s: Tensor) -> Tensor:
            return (s - (1 + margin)).clamp_(max=0).mul_(scale)

        def push(s: Tensor) -> Tensor:
            return (s + margin).clamp_(min=0).mul_(scale)

        sums = [
            LogSum("positives", lambda s: pull(s).mul_(s - (1 - margin)), pull),
            LogSum("negatives", lambda s: push(s).mul_(s - margin), push),
        ]
        costs = []
        for found in sums_over(sides, sums):
            positives, negatives = found.log_sums
            anchors = ~positives.isneginf()
            cost = nn.functional.softplus(positives + negatives)
            costs.append(cost.sum(dim=1) / targets.total(anchors.sum(dim=1)).clamp(min=1))
        return mean_of(costs)
