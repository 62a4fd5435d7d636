"""CoSENT: pairs of a higher score rank above those of a lower one (Su, 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pydantic
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from msiam.losses.base import Loss, Targets
from msiam.losses.rows import row_products
from msiam.losses.tiles import exp_
from msiam.registry.options import Options


class CoSENTOptions(Options):
    scale: float = pydantic.Field(
        20.0, gt=0, description="the higher, the more the hardest pairs count"
    )


class CoSENT(Loss):
    """log(1 + Σ exp(scale · (sⱼ − sᵢ))) over all rows i and j with scoreᵢ > scoreⱼ.

    Takes (B, D) embeddings of two columns, and a score of each row's pair or a label; a pair that
    is the same scores 1 and any other 0. s is the inner product of a pair's embeddings. Nothing is
    said about how similar a pair should be, only which is more so: of labels, a smooth bound on
    what ROC AUC counts. Pairs of equal scores are not compared. A batch without two scores costs 0.

    Rows are sorted by their scores: what row i adds up is then a running sum up to the first of its
    score. So it takes O(B log B) time, and no B × B matrix is made.

    Source: Su, CoSENT: a more efficient sentence vector scheme than Sentence-BERT, 2022 (a blog,
    in Chinese); sentence-transformers has the same loss.
    """

    Options = CoSENTOptions
    needs = ("scores", "labels")

    def forward(self, embeddings: Mapping[str, Tensor], targets: Targets) -> Tensor:
        similarity = self.options.scale * row_products(*embeddings.values())
        scores = targets.scores
        if scores is None:
            scores = targets.positive(len(similarity), similarity.device)
        # A sum of B numbers that differ by many orders wants float64, which Metal has not.
        device = "cpu" if similarity.device.type == "mps" else similarity.device
        cost = _Cost.apply(similarity.to(device, torch.float64), scores.to(device, torch.float64))
        return cost.to(similarity)


class _Cost(torch.autograd.Function):
    """The gradient is made in the forward pass: running sums, downwards this time."""

    @staticmethod
    def forward(ctx: Any, similarity: Tensor, scores: Tensor) -> Tensor:
        scores, order = scores.sort()
        s = similarity[order]
        nothing = s.new_full((1,), -torch.inf)
        # Of row i: log Σ exp(sⱼ − sᵢ) over those below it; of row j, log Σ exp(sⱼ − sᵢ) over
        # those above it.
        below = torch.cat([nothing, s.logcumsumexp(0)])[torch.searchsorted(scores, scores)] - s
        sums = torch.cat([nothing, s.neg().flip(0).logcumsumexp(0)]).flip(0)
        above = sums[torch.searchsorted(scores, scores, right=True)] + s
        cost = torch.cat([s.new_zeros(1), below]).logsumexp(0)
        slope = torch.empty_like(s)
        slope[order] = exp_(above - cost) - exp_(below - cost)
        ctx.save_for_backward(slope)
        return cost + 0 * s.sum()  # no similarity of ∞ is passed over

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return grads[0] * ctx.saved_tensors[0], None
