"""A yes or no for every pair of the batch (SigLIP), with a learnt scale and bias."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pydantic
import torch
from torch import Tensor, nn

from msiam.losses.anchors import Column, anchors_first
from msiam.losses.base import Loss, Targets
from msiam.losses.tiles import widened
from msiam.losses.tiles_sigmoid import softplus_cost
from msiam.registry.options import Options


class SigmoidOptions(Options):
    scale: float = pydantic.Field(
        10.0, gt=0, description="the inverse temperature, at the start, or for ever if not learnt"
    )
    learn_scale: bool = True
    bias: float = pydantic.Field(
        -10.0, description="at the start, or for ever if not learnt; low, as most pairs differ"
    )
    learn_bias: bool = True


class Sigmoid(Loss):
    """Each pair of the batch by itself is told to be the same or not: a logistic regression.

    −1/B · Σᵢⱼ log σ(zᵢⱼ · (scale · aᵢ·bⱼ + bias)) over the B² pairs of a row of a and a row of b,
    both (B, D). z is 1 on the diagonal and −1 off it. Where pairs are labelled, those that are not
    the same have z = −1 on the diagonal. Off the diagonal, items of one group (the same item, or a
    known match) are left out; on it, the row's own label decides.

    The softmax of infonce weighs an anchor's candidates against each other; here, no pair knows of
    another. So labelled rows that are not the same teach something even where none is the same.

    Of rows that ``targets.anchors`` leaves out, the pairs with an anchor count, on either side;
    B is then the number of anchors.

    Paper: Zhai, Mustafa, Kolesnikov and Beyer, Sigmoid Loss for Language Image Pre-Training, 2023.
    """

    Options = SigmoidOptions

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self.log_scale = nn.Parameter(
            torch.tensor(math.log(options.scale)), requires_grad=options.learn_scale
        )
        self.bias = nn.Parameter(torch.tensor(options.bias), requires_grad=options.learn_bias)

    def in_batch(self, columns: int) -> bool:
        return True

    def shares(self, columns: int) -> bool:
        return True

    def forward(self, embeddings: Mapping[str, Tensor], targets: Targets) -> Tensor:
        (left, right), same, count = anchors_first(embeddings, targets)
        own = targets.own(count)
        cost = self._cost(left.part(0, own), right, same[:own])
        if count < len(same):  # the anchors of b beside the others of a
            cost = cost + self._cost(right.part(0, own), left.part(count), None)
        return cost / max(count, 1)

    def _cost(self, rows: Column, columns: Column, same: Tensor | None) -> Tensor:
        a, b = widened(rows.vectors, columns.vectors)
        scale, bias = self.log_scale.exp().to(a.dtype), self.bias.to(a.dtype)
        return softplus_cost(a, b, scale, bias, (rows.groups, columns.groups), same)
