"""Proxy-anchor loss: a learnt proxy of each class pulls and pushes the batch (Kim et al., 2020)."""

from __future__ import annotations

from collections.abc import Mapping

import pydantic
import torch
from torch import Tensor, nn

from msiam.losses.base import Targets
from msiam.losses.classes import ClassLoss
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
        together = log_sums_by_class(-scale * (cosines - margin), labels)
        pull = nn.functional.softplus(together).sum() / max(len(together), 1)
        push = nn.functional.softplus(apart + scale * margin).mean()
        return pull + push


def log_sums_by_class(exponents: Tensor, labels: Tensor) -> Tensor:
    """log Σ exp over the items of each class that there are any of."""
    present, place = labels.unique(return_inverse=True)
    least = exponents.detach().new_full((len(present),), -torch.inf)
    most = least.scatter_reduce(0, place, exponents.detach(), "amax")
    sums = torch.zeros_like(most).index_add(0, place, (exponents - most[place]).exp())
    return most + sums.log()
