"""Proxy-anchor loss: a learnt proxy of each class pulls and pushes the batch (Kim et al., 2020)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pydantic
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from msiam.losses.base import Targets
from msiam.losses.classes import ClassLoss
from msiam.losses.tiles import exp_, log
from msiam.losses.tiles_classes import class_sums
from msiam.registry.options import Options


class ProxyAnchorOptions(Options):
    scale: float = pydantic.Field(
        32.0, gt=0, description="the higher, the more the hardest items count; the paper's alpha"
    )
    margin: float = pydantic.Field(
        0.1, ge=0, description="items should pass it, and those of other classes its negative"
    )
    learning_rate: float | None = pydantic.Field(
        None,
        gt=0,
        description="of the proxies alone; the paper has 100 times that of the encoder; null: "
        "train.learning_rate",
    )


class ProxyAnchor(ClassLoss):
    """1/|P⁺| · Σ_{p ∈ P⁺} log(1 + Σ_{x ∈ X⁺ₚ} exp(−α(s(x, p) − δ)))
    + 1/|P| · Σ_{p ∈ P} log(1 + Σ_{x ∈ X⁻ₚ} exp(α(s(x, p) + δ))).

    s is the cosine, whatever the lengths. P are the proxies of all classes of the training part, a
    vector that is learnt for each; P⁺ are those with an item in the batch. X⁺ₚ are the batch's
    items of the class of p, and X⁻ₚ all others. Each proxy is an anchor to the whole batch, so that
    it needs no second item of a class, and hard items weigh more than easy ones.

    Takes (B, D) embeddings of one column or of several, whose items all count alike, and
    ``targets.groups``, their classes. An item whose class the training part has not is left out.
    Labels of pairs mean nothing here. Time is O(B · C · D) for C classes; memory O(B · chunk)
    above the proxies and their gradient.

    Paper: Kim, Kim, Cho and Kwak, Proxy Anchor Loss for Deep Metric Learning, CVPR 2020.
    """

    Options = ProxyAnchorOptions

    def forward(self, embeddings: Mapping[str, Tensor], targets: Targets) -> Tensor:
        scale, margin = self.options.scale, self.options.margin
        items, labels = self.known(embeddings, targets)
        cosines, apart = class_sums(items, self.weights, labels, scale, of="classes")
        pull = _Pull.apply(cosines, labels, len(self.weights), scale, margin)
        push = nn.functional.softplus(apart + scale * margin).mean()
        return pull + push


class _Pull(torch.autograd.Function):
    """The mean, over classes with items, of log(1 + Σ exp(−scale · (cosine − margin)))."""

    @staticmethod
    def forward(
        ctx: Any, cosines: Tensor, labels: Tensor, classes: int, scale: float, margin: float
    ) -> Tensor:
        exponents = (margin - cosines).mul_(scale)
        least = cosines.new_full((classes,), -torch.inf)
        most = least.scatter_reduce(0, labels, exponents, "amax")
        present = (most != -torch.inf).sum().clamp_(min=1)
        level = most.clamp_(min=0)  # the 1 is among the terms
        terms = exp_(exponents.sub_(level[labels]))
        sums = exp_(-level).scatter_add_(0, labels, terms)
        ctx.save_for_backward(terms.div_(sums[labels]).mul_(-scale).div_(present))
        return (level.add_(log(sums))).sum() / present

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.saved_tensors[0] * grads[0], None, None, None, None
