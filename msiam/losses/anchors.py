"""Rows that ask and rows that are candidates alone: the former come first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import pydantic
import torch
from torch import Tensor

from msiam.losses.base import Targets

#: An option of losses of two columns.
Pooled = Annotated[
    bool,
    pydantic.Field(
        description="compare the items of both columns with one another, and not only across; for "
        "columns of one tower (of infonce: NT-Xent)"
    ),
]


@dataclass(frozen=True)
class Column:
    """(B, D) embeddings and (B,) groups."""

    vectors: Tensor
    groups: Tensor

    def part(self, start: int, stop: int | None = None) -> Column:
        """The rows from ``start`` to ``stop``."""
        if start == 0 and stop == len(self.groups):
            return self  # for a slice, gradients are copied
        return Column(self.vectors[start:stop], self.groups[start:stop])


def below(*columns: Column) -> Column:
    """The rows of all, those of the first on top."""
    return Column(torch.cat([c.vectors for c in columns]), torch.cat([c.groups for c in columns]))


def anchors_first(
    embeddings: Mapping[str, Tensor], targets: Targets
) -> tuple[list[Column], Tensor, int]:
    """The columns and (B,) booleans, the rows that are positive, in another order of rows.

    Returns:
        Columns; positive rows; and how many rows are anchors, see ``Targets.anchors``.
    """
    columns = [Column(vectors, targets.groups[name]) for name, vectors in embeddings.items()]
    size, device = len(columns[0].vectors), columns[0].vectors.device
    positive = targets.positive(size, device)
    if targets.anchors is None:
        return columns, positive, size
    order = (~targets.anchors).int().argsort(stable=True)
    columns = [Column(c.vectors.index_select(0, order), c.groups[order]) for c in columns]
    return columns, positive[order], int(targets.anchors.sum())
