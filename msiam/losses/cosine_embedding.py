"""Cosine embedding loss on labelled pairs, as PyTorch has it."""

from __future__ import annotations

from collections.abc import Mapping

import pydantic
from torch import Tensor

from msiam.losses.base import Loss, Targets
from msiam.losses.rows import row_cosines
from msiam.registry.options import Options


class CosineEmbeddingOptions(Options):
    margin: float = pydantic.Field(
        0.0, ge=-1, lt=1, description="cosine up to which pairs that differ cost nothing"
    )


class CosineEmbedding(Loss):
    """1 − cos for pairs that are the same, max(cos − margin, 0) for the rest, averaged over all.

    Takes (B, D) embeddings of two columns and labelled pairs. The cosine is that of the
    embeddings whatever their length; models are compared by inner product, which ranks as the
    cosine does at length 1 alone. Pairs that differ are pushed as far as the margin: at 0, to a
    right angle. A batch without rows costs 0.

    It is ``torch.nn.CosineEmbeddingLoss``. Bromley et al. 1993 (Signature Verification using a
    "Siamese" Time Delay Neural Network) already train the cosine of two outputs.
    """

    Options = CosineEmbeddingOptions
    needs = ("labels",)
    euclidean = True
    gathers = False

    def forward(self, embeddings: Mapping[str, Tensor], targets: Targets) -> Tensor:
        cosine = row_cosines(*embeddings.values())
        same = targets.positive(len(cosine), cosine.device)
        cost = (1 - cosine).where(same, (cosine - self.options.margin).clamp(min=0))
        return cost.sum() / max(len(cost), 1)
