"""Contrastive loss on labelled pairs (Hadsell, Chopra and LeCun, 2006)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pydantic
from torch import Tensor

from msiam.losses.base import Loss, Targets
from msiam.losses.rows import row_distances
from msiam.registry.options import Options


class ContrastiveOptions(Options):
    margin: float = pydantic.Field(
        1.0, gt=0, description="distance beyond which pairs that differ cost nothing"
    )
    halves: bool = pydantic.Field(
        True, description="the paper's factors ½; many PyTorch versions drop them"
    )
    balanced: bool = pydantic.Field(
        False, description="pairs that are the same and those that are not weigh alike in a batch"
    )


class Contrastive(Loss):
    """(1−Y)·½D² + Y·½·max(m−D, 0)², averaged over the pairs.

    D is the Euclidean distance of the two embeddings and m the margin. As in the paper, Y = 0 for
    pairs that are the same; msiam's ``targets.same`` is 1 − Y. With normalised embeddings D lies
    between 0 and 2. A batch without rows costs 0.

    Paper: Dimensionality Reduction by Learning an Invariant Mapping, CVPR 2006.
    """

    Options = ContrastiveOptions
    needs = ("labels",)
    euclidean = True

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self.gathers = options.balanced  # by how many rows of each kind there are

    def forward(self, embeddings: Mapping[str, Tensor], targets: Targets) -> Tensor:
        distance = row_distances(*embeddings.values())
        same = targets.positive(len(distance), distance.device)
        cost = distance.where(same, (self.options.margin - distance).relu()).square()
        half = 0.5 if self.options.halves else 1.0
        if self.options.balanced:
            kind = same.sum().where(same, (~same).sum()).to(cost)  # the rows of a row's kind
            return half * (cost / kind).sum() / (1 / kind).sum().clamp(min=1)
        return cost.sum() * (half / max(len(cost), 1))
