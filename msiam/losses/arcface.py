"""ArcFace: classification by angle, with a margin on the angle itself (Deng et al., 2019)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pydantic
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from msiam.losses.base import Targets
from msiam.losses.classes import ClassLoss
from msiam.losses.tiles_classes import class_sums
from msiam.registry.options import Options


class ArcFaceOptions(Options):
    scale: float = pydantic.Field(
        64.0, gt=0, description="the inverse temperature; the paper's s, the length of embeddings"
    )
    margin: float = pydantic.Field(
        0.5, ge=0, lt=math.pi / 2, description="added to the angle to the own class, in radians"
    )
    learning_rate: float | None = pydantic.Field(
        None,
        gt=0,
        description="of the classes' vectors alone; they often learn well at 10 to 100 times that "
        "of the encoder; null: train.learning_rate",
    )


class ArcFace(ClassLoss):
    """−log( exp(s·cos(θ_y + m)) / (exp(s·cos(θ_y + m)) + Σ_{c ≠ y} exp(s·cos θ_c)) ), averaged.

    θ_c is the angle of an item and the vector of class c, which is learnt, y the item's own class,
    m the margin and s the scale. Beyond θ_y + m = π, where cos(θ_y + m) would rise again, it is
    cos θ_y − m·sin m instead, as in the authors' code, so that it always pays to come nearer.

    Takes (B, D) embeddings of one column or of several, whose items all count alike, and
    ``targets.groups``, their classes. An item whose class the training part has not is left out.
    Labels of pairs mean nothing here. Time is O(B · C · D) for C classes; memory O(B · chunk)
    above the classes' vectors and their gradient.

    Paper: Deng, Guo, Xue and Zafeiriou, ArcFace: Additive Angular Margin Loss for Deep Face
    Recognition, CVPR 2019.
    """

    Options = ArcFaceOptions
    gathers = False  # a mean over rows: in training, no row's class is unknown

    def forward(self, embeddings: Mapping[str, Tensor], targets: Targets) -> Tensor:
        items, labels = self.known(embeddings, targets)
        cosines, others = class_sums(items, self.weights, labels, self.options.scale, of="items")
        return _MarginCost.apply(cosines, others, self.options.margin, self.options.scale)


def narrowed(cosines: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    """cos(θ + margin) of cos θ, or what stands for it where θ + margin passes π; and its slope."""
    across, along = math.sin(margin), math.cos(margin)
    squares = 1 - cosines.square()  # of sines; of a sine of 0, the root has no slope
    steep = squares.masked_fill(squares < torch.finfo(cosines.dtype).eps, torch.inf).rsqrt_()
    beyond = cosines <= -along
    turned = (cosines * along).sub_(squares.mul_(steep), alpha=across)
    slope = steep.mul_(cosines).mul_(across).add_(along).masked_fill_(beyond, 1)
    return torch.where(beyond, cosines - margin * across, turned), slope


class _MarginCost(torch.autograd.Function):
    """The mean of log(1 + exp(others − scale · cos(θ + margin)))."""

    @staticmethod
    def forward(ctx: Any, cosines: Tensor, others: Tensor, margin: float, scale: float) -> Tensor:
        own, slope = narrowed(cosines, margin)
        gap = others.sub(own, alpha=scale)
        share = gap.sigmoid().div_(max(len(gap), 1))
        ctx.save_for_backward(share, slope.mul_(share).mul_(-scale))
        return nn.functional.softplus(gap).sum() / max(len(gap), 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        share, slope = ctx.saved_tensors
        return slope * grads[0], share * grads[0], None, None
