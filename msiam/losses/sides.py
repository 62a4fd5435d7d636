"""Who is compared with whom, where items of a group belong together: anchors and candidates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from msiam.losses.base import Targets
from msiam.losses.tiles import widened


@dataclass(frozen=True)
class Pairs:
    """Which items make a pair, and which pairs are positive.

    A pair of one group is positive. Where rows are labelled, a row's own pair is what its label
    says, whatever the groups say.

    Attributes:
        rows, columns: (N,) and (M,) integers, the groups of the items on either side.
        both: the columns' items are anchors as well, with the rows' as candidates.
        itself: (N,) integers, each row's item among the columns, where both sides are the same
            items; an item makes no pair with itself.
        partner: (N,) integers, each item's partner in its row, where rows are labelled. A partner's
            partner is the item itself.
        same: (N,) booleans, what the label says of an item and its partner.
    """

    rows: Tensor
    columns: Tensor
    both: bool = False
    itself: Tensor | None = None
    partner: Tensor | None = None
    same: Tensor | None = None

    def positive(self, block: slice) -> Tensor:
        """(n, M) booleans for a block of n rows. An item and itself are told apart elsewhere."""
        positive = self.rows[block, None] == self.columns
        if self.partner is not None and self.same is not None:
            places = torch.arange(len(positive), device=positive.device)
            positive[places, self.partner[block]] = self.same[block]
        return positive

    def asked_by(self, chosen: Tensor) -> Pairs:
        """The pairs of some rows alone; no column asks."""
        itself, partner, same = (
            None if of_rows is None else of_rows[chosen]
            for of_rows in (self.itself, self.partner, self.same)
        )
        return Pairs(self.rows[chosen], self.columns, False, itself, partner, same)


class Side(NamedTuple):
    """(N, D) embeddings of anchors, (M, D) of candidates, in float32 at least, and their pairs."""

    anchors: Tensor
    candidates: Tensor
    pairs: Pairs


def matched(embeddings: Mapping[str, Tensor], targets: Targets, pool: bool) -> list[Side]:
    """Who is compared with whom.

    Where all items of two columns are anchors there is one side, which goes both ways, so that
    their similarities are made once. Where some are candidates alone, each way has a side of its
    own, with its anchors and no others.

    Args:
        embeddings: of one column, which is then compared with itself, of two, or of more.
        pool: items of two columns are put together and compared with one another, and not only
            those of one column with those of the other. Those of more columns always are.
    """
    vectors = list(embeddings.values())
    groups = [targets.groups[name] for name in embeddings]
    size, count, device = len(vectors[0]), len(vectors), vectors[0].device
    same = targets.same if count == 2 else None  # a label is about two columns
    anchors = targets.asked(size, device)
    if count > 2 or (count == 2 and pool):
        vectors, groups = [torch.cat(widened(*vectors))], [torch.cat(groups)]
        same, anchors = (None if rows is None else rows.repeat(count) for rows in (same, anchors))
    a, b = widened(vectors[0], vectors[-1])
    both = len(vectors) == 2
    own = None if both and same is None else torch.arange(len(a), device=device)
    pairs = Pairs(
        rows=groups[0],
        columns=groups[-1],
        both=both,
        itself=None if both else own,
        partner=None if same is None or own is None else own.roll(0 if both else size),
        same=same,
    )
    if anchors is None:
        return [Side(a, b, pairs)]
    chosen = anchors.nonzero()[:, 0]
    sides = [Side(a[chosen], b, pairs.asked_by(chosen))]
    if both:
        turned = replace(pairs, rows=pairs.columns, columns=pairs.rows)
        sides.append(Side(b[chosen], a, turned.asked_by(chosen)))
    return sides
