"""In-batch softmax in both directions (InfoNCE) with a learnt temperature."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self

import pydantic
import torch
from torch import Tensor, nn

from msiam.losses.base import Loss, Targets
from msiam.losses.tiles import softmax_cost
from msiam.registry.options import Options


class InfoNCEOptions(Options):
    temperature: float = pydantic.Field(
        0.07, gt=0, description="at the start, or for ever if not learnt"
    )
    learn_temperature: bool = True
    min_temperature: float = pydantic.Field(0.01, gt=0, description="a learnt one stays above it")

    @pydantic.model_validator(mode="after")
    def _start_above_the_least(self) -> Self:
        if self.learn_temperature and self.temperature < self.min_temperature:
            raise ValueError(
                f"temperature {self.temperature} is below min_temperature {self.min_temperature}; "
                "lower that too, or set learn_temperature: false"
            )
        return self


class InfoNCE(Loss):
    """Each item must find its partner among all of the batch: a softmax over similarities.

    ½·mean of −log softmax(s)ᵢᵢ over rows and over columns, with s = a bᵀ / temperature. Off the
    diagonal, items of one group (the same item, or a known match) are left out. Where pairs are
    labelled, only the same ones are anchors; the others' items still serve as candidates.
    A batch without anchors costs 0.

    Papers: van den Oord et al. 2018; Radford et al. 2021 (the symmetric form, CLIP).
    """

    Options = InfoNCEOptions

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self.log_scale = nn.Parameter(
            torch.tensor(-math.log(options.temperature)), requires_grad=options.learn_temperature
        )

    @property
    def temperature(self) -> float:
        return 1 / self._scale().item()

    def _scale(self) -> Tensor:
        """The inverse temperature, held in its bounds.

        The parameter itself is put back, as in CLIP. A clamp in the graph would have no gradient
        beyond the bound, so that a temperature which once got there could never come back.
        """
        if self.options.learn_temperature:
            with torch.no_grad():
                self.log_scale.clamp_(max=-math.log(self.options.min_temperature))
        return self.log_scale.exp()

    def forward(self, embeddings: Mapping[str, Tensor], targets: Targets) -> Tensor:
        (one, a), (other, b) = embeddings.items()
        anchors = targets.positive(len(a), a.device)
        weight = anchors / (2 * anchors.sum().clamp(min=1))
        groups = (targets.groups[one], targets.groups[other])
        return softmax_cost(a, b, self._scale(), groups, (weight, weight))
