"""The positive pairs that are mined for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from msiam.data.examples import Examples
from msiam.errors import DataError


@dataclass(frozen=True)
class Pairs:
    """n distinct positive pairs, in the order of their table.

    Attributes:
        anchors, positives: (n,) int64, item numbers.
        groups: (n,) int64, the group that both are of.
    """

    anchors: np.ndarray
    positives: np.ndarray
    groups: np.ndarray

    def __len__(self) -> int:
        return len(self.anchors)

    def select(self, kept: np.ndarray) -> Pairs:
        return Pairs(self.anchors[kept], self.positives[kept], self.groups[kept])

    @classmethod
    def find(cls, examples: Examples, anchor: str, positive: str, seed: int = 0) -> Pairs:
        """The rows whose two items belong together; of one column, each item with another.

        That other one is of the same class, drawn at random.

        Raises:
            DataError: there is none.
        """
        if anchor == positive:
            return cls._within(examples, anchor, seed)
        together = examples.groups[anchor] == examples.groups[positive]
        if examples.same is not None:
            together &= examples.same
        rows = np.flatnonzero(together)
        if len(rows) == 0:
            raise DataError(
                f"none of the {len(examples)} rows pairs a '{anchor}' with a '{positive}' that "
                "belongs to it; mine from a column to one with its positives"
            )
        both = np.stack([examples.columns[anchor][rows], examples.columns[positive][rows]])
        _, first = np.unique(both, axis=1, return_index=True)
        rows = rows[np.sort(first)]
        return cls(
            examples.columns[anchor][rows],
            examples.columns[positive][rows],
            examples.groups[anchor][rows],
        )

    @classmethod
    def _within(cls, examples: Examples, column: str, seed: int) -> Pairs:
        items, where = np.unique(examples.columns[column], return_index=True)
        groups = examples.groups[column][where]
        order = np.lexsort((where, groups))
        _, start, sizes = np.unique(groups[order], return_index=True, return_counts=True)
        start, sizes = np.repeat(start, sizes), np.repeat(sizes, sizes)
        several = sizes > 1
        if not several.any():
            raise DataError(f"column '{column}': no class has two items, so that none is positive")
        step = np.random.default_rng(seed).integers(1, np.maximum(sizes, 2))
        other = order[start + (np.arange(len(order)) - start + step) % sizes]
        kept = np.argsort(where[order[several]])  # in the order of the table
        one, other = order[several][kept], other[several][kept]
        return cls(items[one], items[other], groups[one])
