"""Contrastive loss on the hard pairs of a batch alone (sentence-transformers' online loss)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import pydantic
from torch import Tensor

from msiam.losses.base import Loss, Targets
from msiam.losses.rows import row_cosines, row_distances
from msiam.registry.options import Options


class OnlineContrastiveOptions(Options):
    margin: float = pydantic.Field(
        0.5, gt=0, description="distance beyond which pairs that differ cost nothing"
    )
    distance: Literal["cosine", "euclidean"] = pydantic.Field(
        "cosine", description="cosine: 1 − cos, between 0 and 2"
    )
    mean: bool = pydantic.Field(
        True, description="over the hard pairs; false: their sum, as sentence-transformers has it"
    )


class OnlineContrastive(Loss):
    """D² for the hard pairs that are the same, max(m − D, 0)² for the hard ones that differ.

    Takes (B, D) embeddings of two columns and labelled pairs. Hard are, of a batch's B pairs,
    those that are the same and farther apart than the nearest pair that differs, and those that
    differ and are nearer than the farthest pair that is the same. All others are ranked right
    already and cost nothing. In a batch with one kind of pairs alone, the hard ones are those on
    the wrong side of their own mean distance. A batch without hard pairs costs 0.

    It is the OnlineContrastiveLoss of sentence-transformers (Reimers and Gurevych, 2019), which
    also takes the mean where there is but one pair of the other kind; here that one pair counts.
    The contrastive loss itself: Hadsell, Chopra and LeCun, 2006.
    """

    Options = OnlineContrastiveOptions
    needs = ("labels",)
    euclidean = True

    def forward(self, embeddings: Mapping[str, Tensor], targets: Targets) -> Tensor:
        distance = self._distance(*embeddings.values())
        same = targets.positive(len(distance), distance.device)
        hard = self._hard(distance.detach(), same)
        cost = distance.where(same, (self.options.margin - distance).clamp(min=0)).pow(2)
        total = (cost * hard).sum()
        return total / hard.sum().clamp(min=1) if self.options.mean else total

    def _distance(self, left: Tensor, right: Tensor) -> Tensor:
        if self.options.distance == "euclidean":
            return row_distances(left, right)
        return 1 - row_cosines(left, right)

    @staticmethod
    def _hard(distance: Tensor, same: Tensor) -> Tensor:
        """(B,) booleans: which pairs count."""
        together, apart = distance[same], distance[~same]
        # Of no pairs the mean is no number, and there is nobody to compare it with.
        nearest = apart.min() if len(apart) else together.mean()
        farthest = together.max() if len(together) else apart.mean()
        return (distance > nearest).where(same, distance < farthest)
