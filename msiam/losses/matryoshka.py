"""Matryoshka: another loss on the beginnings of the embeddings (Kusupati et al., 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import pydantic
import torch
from torch import Tensor, nn

from msiam.errors import RecipeError
from msiam.losses.base import Given, Targets, each
from msiam.losses.tiles import widened
from msiam.losses.wrapper import Wrapper, WrapperOptions

#: The parts of the full width that are taken where no widths are named.
PARTS = (1, 2, 4, 8)


class MatryoshkaOptions(WrapperOptions):
    dims: list[pydantic.PositiveInt] | None = pydantic.Field(
        None,
        min_length=1,
        description="widths to which embeddings are cut; null: the full width, a half, a quarter "
        "and an eighth of it",
    )
    weights: list[pydantic.PositiveFloat] | None = pydantic.Field(
        None, description="what the loss at each width counts; null: 1 each, as in the paper"
    )

    @pydantic.model_validator(mode="after")
    def _a_weight_a_width(self) -> Self:
        widths = self.dims or PARTS
        if len(set(widths)) < len(widths):
            raise ValueError("dims names a width twice; weights says how much each counts")
        if self.weights is not None and len(self.weights) != len(widths):
            raise ValueError(
                f"weights must be one for each of the {len(widths)} dims; it has "
                f"{len(self.weights)}"
            )
        return self


class Matryoshka(Wrapper):
    """Σ_d c_d · L(embeddings cut to their first d numbers, at length 1 again).

    Takes what the loss L takes. The model learns to say first what matters most, so that its
    embeddings can be cut afterwards, for an index that is smaller and faster: cut them to one of
    the widths trained and bring them to length 1.

    Each width has an L of its own, with its own learnt state (a temperature), as the paper has
    a classifier for each.

    Paper: Kusupati et al., Matryoshka Representation Learning, NeurIPS 2022.
    """

    Options = MatryoshkaOptions
    where = "loss (matryoshka)"

    def __init__(self, options: Any) -> None:
        super().__init__(options, copies=len(options.dims or PARTS))
        self.euclidean = True
        weights = options.weights or [1.0] * len(self.losses)
        self.weights = [options.loss.weight * weight for weight in weights]

    def check(self, name: str, given: Given) -> None:
        """Whether the inner loss fits what it will be given, and the widths the embeddings.

        Raises:
            RecipeError: they do not.
        """
        self.widths(given.dim)
        super().check(name, given)

    def begin(self, groups: Tensor, dim: int) -> None:
        for width, loss in zip(self.widths(dim), each(self.losses), strict=True):
            loss.begin(groups, width)

    def widths(self, full: int) -> list[int]:
        """The widths to which embeddings of the full width are cut.

        Raises:
            RecipeError: one is more than the full width.
        """
        if self.options.dims is None:
            return [max(1, full // part) for part in PARTS]
        if max(self.options.dims) > full:
            raise RecipeError(
                f"{self.where}.dims: found {max(self.options.dims)}; the towers' dim is {full}"
            )
        return self.options.dims

    def forward(self, embeddings: Mapping[str, Tensor], targets: Targets) -> Tensor:
        wide = dict(zip(embeddings, widened(*embeddings.values()), strict=True))
        widths = self.widths(next(iter(wide.values())).shape[1])
        costs = []
        for width, weight, loss in zip(widths, self.weights, self.losses, strict=True):
            cut = {
                column: nn.functional.normalize(vectors[:, :width], dim=1)
                for column, vectors in wide.items()
            }
            costs.append(weight * loss(cut, targets))
        return torch.stack(costs).sum()
