"""Losses that learn a vector of each class: what they share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from msiam.errors import TrainingError
from msiam.losses.base import Loss, Targets
from msiam.losses.tiles import widened


class ClassLoss(Loss):
    """A loss of items and their classes, with a vector of each class, (C, D), as a parameter.

    ``begin`` makes the vectors, at random and of length 1. Only their directions count, so that at
    length 1 a learning rate means the same whatever the width and the number of classes.
    """

    columns = (1, 2)
    more = True
    needs = ("classes",)
    euclidean = True

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self.register_buffer("groups", torch.empty(0, dtype=torch.long))
        self.weights = nn.Parameter(torch.empty(0, 0))
        self.groups: Tensor

    def begin(self, groups: Tensor, dim: int) -> None:
        self.groups = groups.clone()
        vectors = torch.randn(len(groups), dim, device=groups.device)
        self.weights = nn.Parameter(nn.functional.normalize(vectors, dim=1))

    def known(self, embeddings: Mapping[str, Tensor], targets: Targets) -> tuple[Tensor, Tensor]:
        """The items of all columns whose class is known.

        Returns:
            Their embeddings, (N, D), in float32 at least, and their classes, (N,) numbers of rows
            of ``weights``.

        Raises:
            TrainingError: there are no classes, since ``begin`` was not called.
        """
        if not len(self.groups):
            raise TrainingError(
                f"{type(self).__name__} knows of no class; call begin(groups, dim) before training"
            )
        items, *more = widened(*embeddings.values())
        groups, *others = (targets.groups[column] for column in embeddings)
        if more:
            items, groups = torch.cat([items, *more]), torch.cat([groups, *others])
        labels = torch.searchsorted(self.groups, groups).clamp_(max=len(self.groups) - 1)
        known = self.groups[labels] == groups
        return (items, labels) if known.all() else (items[known], labels[known])
