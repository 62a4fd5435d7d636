"""In-batch softmax (InfoNCE, NT-Xent) in one direction or both, with a learnt temperature."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, Self

import pydantic
import torch
from torch import Tensor, nn

from msiam.losses.anchors import Column, Pooled, anchors_first, below
from msiam.losses.base import Loss, Targets
from msiam.losses.softmax import softmax_cost
from msiam.losses.tiles import part
from msiam.registry.options import Options


class InfoNCEOptions(Options):
    temperature: float = pydantic.Field(
        0.07, gt=0, description="at the start, or for ever if not learnt"
    )
    learn_temperature: bool = True
    min_temperature: float = pydantic.Field(0.01, gt=0, description="a learnt one stays above it")
    directions: Literal["both", "first"] = pydantic.Field(
        "both",
        description="first: items of the first column look for theirs in the second, and not "
        "the other way round",
    )
    pool: Pooled = False

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

    ½·mean of −log softmax(s)ᵢᵢ over rows and over columns, with s = a bᵀ / temperature for (B, D)
    embeddings a and b; with ``directions: first``, the mean over rows alone. With ``pool``, each of
    the 2·B items has all others as candidates (NT-Xent, where the columns hold two views). Items
    of one group (the same item, or a known match) are left out, but for an anchor's partner. Where
    pairs are labelled, only the same ones are anchors; the others' items still serve as candidates,
    and so do those of rows that ``targets.anchors`` leaves out. A batch without anchors costs 0.

    Papers: van den Oord et al. 2018; Radford et al. 2021 (the symmetric form, CLIP); Chen et al.,
    A Simple Framework for Contrastive Learning of Visual Representations, 2020 (the pool, SimCLR).
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

    def in_batch(self, columns: int) -> bool:
        return True

    def shares(self, columns: int) -> bool:
        return True

    def forward(self, embeddings: Mapping[str, Tensor], targets: Targets) -> Tensor:
        (a, b), positive, count = anchors_first(embeddings, targets)
        both = self.options.directions == "both"
        share = 0.5 if both else 1.0
        if targets.same is None:
            weight = a.vectors.new_full((count,), share / max(count, 1), dtype=torch.float32)
        else:
            weight = positive[:count] * share / positive[:count].sum().clamp(min=1)
        scale = self._scale()

        def cost(asked: Column, candidates: Column, r: Tensor, c: Tensor | None = None) -> Tensor:
            groups = (asked.groups, candidates.groups)
            return softmax_cost(
                asked.vectors, candidates.vectors, scale, groups, (r, c), targets.share
            )

        own = targets.own(count)
        first, other = a.part(0, own), b.part(0, own)
        if both and not self.options.pool and count == len(a.groups):
            return cost(first, b, part(weight, slice(0, own)), weight)
        weight = part(weight, slice(0, own))
        if not self.options.pool:
            one_way = cost(first, b, weight)
            return one_way + cost(other, a, weight) if both else one_way
        # An item and itself are of one group, and so left out.
        rest = [b.part(own), a.part(own)] if own < len(a.groups) else []
        candidates = below(other, first, *rest)
        if both:
            return cost(below(first, other), candidates, torch.cat([weight, weight]))
        return cost(first, candidates, weight)
