"""Multi-similarity loss (Wang et al., 2019), across two columns and within one."""

from __future__ import annotations

from collections.abc import Mapping

import pydantic
from torch import Tensor, nn

from msiam.losses.anchors import Pooled
from msiam.losses.base import Loss, Targets
from msiam.losses.sides import matched
from msiam.losses.tiles_groups import LogSum, mean_of, sums_over
from msiam.registry.options import Options


class MultiSimilarityOptions(Options):
    alpha: float = pydantic.Field(
        2.0, gt=0, description="the higher, the more the farthest positives count"
    )
    beta: float = pydantic.Field(
        50.0, gt=0, description="the higher, the more the nearest negatives count"
    )
    base: float = pydantic.Field(
        0.5, description="the similarity that parts positives from negatives; the paper's lambda"
    )
    pool: Pooled = False


class MultiSimilarity(Loss):
    """Positives are pulled above a similarity and negatives below it, the hardest ones most.

    1/α · log(1 + Σ_p exp(−α·(sᵢₚ − λ))) + 1/β · log(1 + Σ_n exp(β·(sᵢₙ − λ))) for an anchor i,
    averaged over all items, with s the inner products. Positives p are the items of the anchor's
    group, negatives n all others. An item without positives still pushes its negatives away, and
    one without negatives pulls its positives.

    With two columns, (B, D) each, rows of one have the other's rows as candidates, in both
    directions, which weigh ½ each; with ``pool``, all 2·B items are each other's candidates. With
    one column, its items are.

    Where rows are labelled, the two items of a row are positives if they are labelled the same and
    negatives if not, whatever the groups say. The paper's mining of pairs is not part of this: all
    pairs of the batch count.

    Paper: Wang et al., Multi-Similarity Loss with General Pair Weighting for Deep Metric Learning,
    CVPR 2019.
    """

    Options = MultiSimilarityOptions
    columns = (1, 2)

    def in_batch(self, columns: int) -> bool:
        return True

    def shares(self, columns: int) -> bool:
        return True

    def forward(self, embeddings: Mapping[str, Tensor], targets: Targets) -> Tensor:
        sides = matched(embeddings, targets, self.options.pool)
        alpha, beta, base = self.options.alpha, self.options.beta, self.options.base
        sums = [
            LogSum("positives", lambda s: (s - base) * -alpha, lambda s: -alpha),
            LogSum("negatives", lambda s: (s - base) * beta, lambda s: beta),
        ]
        costs = []
        for found in sums_over(sides, sums):
            positives, negatives = found.log_sums
            pull = nn.functional.softplus(positives) / alpha
            push = nn.functional.softplus(negatives) / beta
            costs.append((pull + push).sum(dim=1) / max(targets.total(pull.shape[1]), 1))
        return mean_of(costs)
