"""Rows that ask and rows that are candidates alone: the former come first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from msiam.losses.base import Targets


@dataclass(frozen=True)
class Side:
    """One column: (B, D) embeddings and (B,) groups."""

    vectors: Tensor
    groups: Tensor

    def part(self, start: int, stop: int | None = None) -> Side:
        """The rows from ``start`` to ``stop``."""
        if start == 0 and stop == len(self.groups):
            return self  # for a slice, gradients are copied
        return Side(self.vectors[start:stop], self.groups[start:stop])


def below(*sides: Side) -> Side:
    """The rows of all, those of the first on top."""
    return Side(torch.cat([s.vectors for s in sides]), torch.cat([s.groups for s in sides]))


def anchors_first(
    embeddings: Mapping[str, Tensor], targets: Targets
) -> tuple[list[Side], Tensor, int]:
    """The columns and (B,) booleans, the rows that are positive, in another order of rows.

    Returns:
        Columns; positive rows; and how many rows are anchors, see ``Targets.anchors``.
    """
    sides = [Side(vectors, targets.groups[name]) for name, vectors in embeddings.items()]
    size, device = len(sides[0].vectors), sides[0].vectors.device
    positive = targets.positive(size, device)
    if targets.anchors is None:
        return sides, positive, size
    order = (~targets.anchors).int().argsort(stable=True)
    sides = [Side(side.vectors.index_select(0, order), side.groups[order]) for side in sides]
    return sides, positive[order], int(targets.anchors.sum())
