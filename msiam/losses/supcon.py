"""Supervised contrastive loss (Khosla et al., 2020), within one column and across two."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pydantic
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from msiam.losses.anchors import Pooled
from msiam.losses.base import Loss, Targets
from msiam.losses.sides import matched
from msiam.losses.tiles_groups import LogSum, mean_of, sums_over
from msiam.registry.options import Options


class SupConOptions(Options):
    temperature: float = pydantic.Field(
        0.1, gt=0, description="the lower, the more the hardest negatives count"
    )
    pool: Pooled = False


class SupCon(Loss):
    """Each item must find all items of its group among all of the batch.

    −1/|P(i)| · Σ_{p ∈ P(i)} log( exp(sᵢₚ) / Σ_{j ∈ A(i)} exp(sᵢⱼ) ) for an anchor i, averaged over
    the anchors, with s the inner products over the temperature (the paper's L_out). P(i) are the
    anchor's positives, the items of its group (``targets.groups`` are the classes), and A(i) all of
    its candidates. An item without a positive costs nothing and is not counted; it still serves as
    a candidate. A batch without positives costs 0.

    - Two columns, (B, D) each: rows of one have the other's rows as candidates, in both
      directions, which weigh ½ each. With a group a row this is infonce at a fixed temperature.
    - Two columns with ``pool``: 2·B items, each with all others as candidates; the paper's setting,
      where the columns hold two views of an image.
    - More columns are pooled likewise: of C columns, C·B items, each with all others.
    - One column: B items, each with all others.

    Where rows are labelled, the two items of a row are positives if they are labelled the same and
    negatives if not, whatever the groups say.

    Paper: Khosla et al., Supervised Contrastive Learning, NeurIPS 2020.
    """

    Options = SupConOptions
    columns = (1, 2)
    more = True

    def in_batch(self, columns: int) -> bool:
        return True

    def shares(self, columns: int) -> bool:
        return True

    def forward(self, embeddings: Mapping[str, Tensor], targets: Targets) -> Tensor:
        sides = matched(embeddings, targets, self.options.pool)
        scale = 1 / self.options.temperature
        everything = LogSum("all", lambda s: s * scale, lambda s: scale)
        costs = []
        for found in sums_over(sides, [everything], totals=True):
            (candidates,), total, count = found.log_sums, found.total, found.count
            assert total is not None and count is not None
            there = (count > 0).to(total.dtype)  # an only item has neither positives nor candidates
            share = there / targets.total(there.sum(dim=1)).clamp(min=1)[:, None]
            costs.append(_Cost.apply(candidates, total, share, -scale * share / count.clamp(min=1)))
        return mean_of(costs)


class _Cost(torch.autograd.Function):
    """(ways,) sums of products, candidates · share + total · of_total; −∞ · 0 is 0.

    Written out, since autograd takes several times as long for so few numbers.
    """

    @staticmethod
    def forward(
        ctx: Any, candidates: Tensor, total: Tensor, share: Tensor, of_total: Tensor
    ) -> Tensor:
        ctx.save_for_backward(share, of_total)
        candidates = candidates.clamp(min=torch.finfo(candidates.dtype).min)
        return candidates.mul_(share).addcmul_(total, of_total).sum(dim=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return *(grads[0][:, None] * slope for slope in ctx.saved_tensors), None, None
