"""The contract of a loss: embeddings by column and targets in, one number out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from msiam.errors import RecipeError
from msiam.losses.share import Count, Share
from msiam.registry.options import Options


@dataclass(frozen=True)
class Targets:
    """What is known about the B rows of a batch.

    Attributes:
        groups: by column, (B,) integers. Items of one group belong together (they are the same
            item, or known to match through other pairs), so no loss takes them for negatives.
        same: (B,) booleans where pairs are labelled; None where every row is a positive.
        scores: (B,) numbers where rows are scored: the larger, the more alike the first two items
            (of triplets: how much more alike they are than the first and the third).
        anchors: (B,) booleans, the rows that ask; the others' items, kept from earlier batches,
            are candidates alone. None: all ask. A loss whose rows meet no others is not given any.
        share: which of those this process asks, where several share a batch (``Loss.shares``).
    """

    groups: dict[str, Tensor]
    same: Tensor | None = None
    scores: Tensor | None = None
    anchors: Tensor | None = None
    share: Share | None = None

    def positive(self, size: int, device: torch.device) -> Tensor:
        """(B,) booleans: the rows whose items belong together."""
        if self.same is None:
            return torch.ones(size, dtype=torch.bool, device=device)
        return self.same

    def asked(self, size: int, device: torch.device) -> Tensor | None:
        """(B,) booleans: the anchors that this process asks; None: all rows."""
        if self.share is None:
            return self.anchors
        return torch.arange(size, device=device) < self.share.rows

    def own(self, anchors: int) -> int:
        """How many of the anchors this process asks; they come first."""
        return anchors if self.share is None else self.share.rows

    def total(self, count: Count) -> Count:
        """What a mean divides by: a count over the anchors that are asked, of all processes."""
        return count if self.share is None else self.share.total(count)


@dataclass(frozen=True)
class Given:
    """What a recipe will give a loss.

    Attributes:
        columns: their names, in the recipe's order.
        targets: what it says of the rows: any of "labels", "scores" and "classes".
        dim: the embeddings' width.
    """

    columns: Sequence[str]
    targets: Collection[str]
    dim: int


#: How a recipe comes to have each kind of targets, and what does without.
TARGETS = {
    "labels": "labelled pairs; add 'label: {column: ..., same: ...}' to data",
    "scores": "scores; add 'score: {column: ..., same: ...}' to data",
    "classes": "classes; add 'classes: COLUMN' to data",
}


class Loss(nn.Module, ABC):
    """A function of embeddings and targets. State that is learnt (a temperature) is a parameter.

    Class attributes declare what a loss needs, and are checked before training begins. Where its
    options decide, ``__init__`` sets them.
    """

    Options: ClassVar[type[Options]] = Options
    #: How many columns of the model it may take, in the order in which the recipe names them.
    columns: tuple[int, ...] = (2,)
    #: Whether it may take more columns than the most of these, however many.
    more: bool = False
    #: What it learns from, any one of them: "labels", "scores", "classes". Empty: rows may be
    #: labelled or all positive.
    needs: tuple[str, ...] = ()
    #: Whether it works on Euclidean distances. These rank as similarities do at length 1 alone.
    euclidean: bool = False
    #: Whether a row's cost depends on the others', so that of several processes each needs the rows
    #: of all. False: the loss is a plain mean over rows.
    gathers: bool = True

    def __init__(self, options: Any) -> None:
        super().__init__()
        self.options = options

    def in_batch(self, columns: int) -> bool:
        """Whether rows of so many columns are candidates for one another.

        Such a loss takes its anchors from ``targets.anchors``, and may have a memory of more rows.
        """
        return False

    def shares(self, columns: int) -> bool:
        """Whether several processes share its work, of so many columns.

        Each then asks its own anchors, ``targets.asked``, against the rows of all, and divides by
        ``targets.total``: the costs of all add up to that of the batch. One that does not share,
        but gathers, is computed as a whole by each process.
        """
        return False

    @abstractmethod
    def forward(self, embeddings: Mapping[str, Tensor], targets: Targets) -> Tensor:
        """Embeddings by column, each (B, D), in the recipe's order of columns, to a scalar."""

    def check(self, name: str, given: Given) -> None:
        """Whether the loss, of this name in a recipe, fits what it will be given.

        Raises:
            RecipeError: the wrong number of columns, no targets where it learns from them, or
                classes where its third column holds negatives.
        """
        columns = given.columns
        count = len(columns)
        if count not in self.columns and not (self.more and count > max(self.columns)):
            wanted = " or ".join([*map(str, self.columns), *(["more"] if self.more else [])])
            raise RecipeError(
                f"loss.name: {name} takes {wanted} columns; the recipe has {count} "
                f"({', '.join(columns)})"
            )
        by_groups = self.more and 1 in self.columns
        if count > 2 and "classes" in given.targets and not by_groups:
            raise RecipeError(
                f"loss.name: {name} takes what follows the second column for negatives, and with "
                "classes all of a row may belong together; take supcon, or leave classes out"
            )
        if self.needs and not set(self.needs) & set(given.targets):
            wanted = ", or from ".join(TARGETS[kind] for kind in self.needs)
            raise RecipeError(
                f"loss.name: {name} learns from {wanted}; or take infonce, which needs neither"
            )

    def begin(self, groups: Tensor, dim: int) -> None:
        """Make what is learnt of each class. Called once, before training; most have nothing.

        Args:
            groups: (C,) ascending, the groups of the training part; see ``Targets.groups``.
            dim: the embeddings' width.
        """

    def lasts(self, steps: int) -> None:
        """How many steps the training takes in all, for what goes by that. Called before it."""


def each(losses: nn.ModuleList) -> list[Loss]:
    """The losses of a list that torch knows."""
    return [loss for loss in losses if isinstance(loss, Loss)]


class WeightedSum(nn.Module):
    """Several losses at once, each times its weight."""

    def __init__(self, losses: Sequence[Loss], weights: Sequence[float]) -> None:
        super().__init__()
        self.losses = nn.ModuleList(losses)
        self.weights = list(weights)
        self.options = [loss.options for loss in losses]

    def begin(self, groups: Tensor, dim: int) -> None:
        """Each loss's own; see ``Loss.begin``."""
        for loss in each(self.losses):
            loss.begin(groups, dim)

    def lasts(self, steps: int) -> None:
        """Each loss's own; see ``Loss.lasts``."""
        for loss in each(self.losses):
            loss.lasts(steps)

    def forward(self, embeddings: Mapping[str, Tensor], targets: Targets) -> Tensor:
        terms = [
            weight * loss(embeddings, targets)
            for loss, weight in zip(self.losses, self.weights, strict=True)
        ]
        return torch.stack(terms).sum()
