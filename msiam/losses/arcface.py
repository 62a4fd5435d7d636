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
        own = self.options.scale * narrowed(cosines, self.options.margin)
        return nn.functional.softplus(others - own).sum() / max(len(own), 1)


def narrowed(cosines: Tensor, margin: float) -> Tensor:
    """cos(θ + margin) from cos θ, and what stands for it where θ + margin passes π."""
    return _Narrowed.apply(cosines, margin)


class _Narrowed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, cosines: Tensor, margin: float) -> Tensor:
        across, along = math.sin(margin), math.cos(margin)
        squares = 1 - cosines.square()
        flat = squares < torch.finfo(cosines.dtype).eps  # there, a root has no slope
        sines = squares.masked_fill_(flat, torch.finfo(cosines.dtype).eps).sqrt_()
        beyond = cosines <= -along
        ctx.save_for_backward(
            (cosines / sines).masked_fill_(flat, 0).mul_(across).add_(along).masked_fill_(beyond, 1)
        )
        turned = torch.sub(cosines * along, sines, alpha=across)
        return torch.where(beyond, cosines - margin * across, turned)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return grads[0] * ctx.saved_tensors[0], None
