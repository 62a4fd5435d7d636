"""CoSENT: pairs that are the same rank above those that are not (Su, 2022)."""

from __future__ import annotations

from collections.abc import Mapping

import pydantic
from torch import Tensor, nn

from msiam.losses.base import Loss, Targets
from msiam.registry.options import Options


class CoSENTOptions(Options):
    scale: float = pydantic.Field(
        20.0, gt=0, description="the higher, the more the hardest pairs count"
    )


class CoSENT(Loss):
    """log(1 + Σ exp(scale · (s_n − s_p))) over pairs n that differ and p that are the same.

    s is the inner product of a pair's embeddings. Nothing is said about how similar a pair should
    be, only which is more so: a smooth bound on what ROC AUC counts. The sum over all n and p
    is a product of two sums, so that no B × B matrix is ever made.
    """

    Options = CoSENTOptions
    needs = ("labels",)

    def forward(self, embeddings: Mapping[str, Tensor], targets: Targets) -> Tensor:
        left, right = embeddings.values()
        similarity = self.options.scale * (left * right).sum(dim=1)
        same = targets.positive(len(left), left.device)
        least = similarity.new_tensor(float("-inf"))
        apart = similarity.where(~same, least).logsumexp(0)
        together = (-similarity).where(same, least).logsumexp(0)
        if not same.any() or same.all():  # nothing to rank, and no gradient through −inf
            return similarity.sum() * 0
        return nn.functional.softplus(apart + together)
