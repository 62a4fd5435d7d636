"""The distance matrix of anchors and candidates, a block of rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from msiam.losses.distances import centred, squared_distances, squared_lengths
from msiam.losses.tiles import row_blocks

#: Which positives an anchor meets: that of its row, the farthest of its group, or all of it.
Positives = Literal["row", "hardest", "all"]


@dataclass(frozen=True)
class Pool:
    """Anchors, and the candidates that they meet.

    Attributes:
        anchors: (A, D) embeddings.
        candidates: (N, D) embeddings.
        anchor_groups, candidate_groups: (A,) and (N,); those of one group belong together.
        same: (A,) booleans where an anchor and the candidate at its place are a pair: whether they
            belong together. None: an anchor *is* the candidate at its place.
        places: (A,) integers, by anchor a candidate's number; None: i for anchor i.
        sharp: distances near zero are to be as exact as others; a square root needs that.
    """

    anchors: Tensor
    candidates: Tensor
    anchor_groups: Tensor
    candidate_groups: Tensor
    same: Tensor | None = None
    places: Tensor | None = None
    sharp: bool = False

    @cached_property
    def centred(self) -> tuple[Tensor, Tensor]:
        """Both, moved to where their distances are exact."""
        return centred(self.anchors, self.candidates)

    @cached_property
    def lengths(self) -> tuple[Tensor, Tensor]:
        """(A,) and (N,) squared, of both when they are centred."""
        a, b = self.centred
        of_a = squared_lengths(a)
        return of_a, of_a if a is b else squared_lengths(b)

    def blocks(self, size: int) -> Iterator[Block]:
        """All anchors in order; ``size``: how much a block takes, in matrices of float32."""
        if len(self.candidates):
            for rows in row_blocks(len(self.anchors), size * len(self.candidates)):
                yield Block(self, rows)


@dataclass(frozen=True)
class Block:
    """r of the anchors, and all N candidates."""

    pool: Pool
    rows: slice

    @property
    def anchors(self) -> Tensor:
        return self.pool.anchors[self.rows]

    @property
    def candidates(self) -> Tensor:
        return self.pool.candidates

    @property
    def anchor_groups(self) -> Tensor:
        return self.pool.anchor_groups[self.rows]

    @property
    def candidate_groups(self) -> Tensor:
        return self.pool.candidate_groups

    @cached_property
    def places(self) -> Tensor:
        """(r, 1) numbers of candidates: the anchors' own, or the anchors themselves."""
        if self.pool.places is not None:
            return self.pool.places[self.rows, None]
        device = self.pool.anchor_groups.device
        return torch.arange(self.rows.start, self.rows.stop, device=device)[:, None]

    @cached_property
    def known(self) -> Tensor:
        """(r, N) booleans: who belongs together, and so is nobody's negative."""
        known = self.anchor_groups[:, None] == self.candidate_groups
        if self.pool.same is not None:
            own = known.gather(1, self.places) | self.pool.same[self.rows, None]
            known.scatter_(1, self.places, own)
        return known

    @cached_property
    def barren(self) -> Tensor:
        """(r,) booleans: the anchors that have no negative."""
        return self.known.all(dim=1)

    @cached_property
    def squared(self) -> Tensor:
        """(r, N) squared Euclidean distances."""
        anchors, candidates = self.pool.centred[0][self.rows], self.pool.centred[1]
        lengths = (self.pool.lengths[0][self.rows], self.pool.lengths[1])
        return squared_distances(anchors, candidates, lengths, self.pool.sharp)

    @cached_property
    def far(self) -> Tensor:
        """(r, N) squared distances of the negatives; those of the others are infinite."""
        return self.squared.masked_fill(self.known, torch.inf)

    def positives(self, which: Positives) -> tuple[Tensor, Tensor]:
        """(r, P) numbers of candidates, and whether there is one: some anchors have fewer."""
        if which == "row":
            assert self.pool.same is not None, "rows are no pairs"
            return self.places, self.pool.same[self.rows, None]
        same = self.pool.same
        if same is None:
            known = self.known.scatter(1, self.places, False)
        else:
            known = self.known.scatter(1, self.places, same[self.rows, None])
        if which == "hardest":
            farthest = self.squared.masked_fill(~known, -torch.inf).argmax(dim=1)
            return farthest[:, None], known.any(dim=1)[:, None]
        count = known.sum(dim=1)
        row, place = known.nonzero(as_tuple=True)
        slot = torch.arange(len(row), device=row.device) - (count.cumsum(0) - count)[row]
        most = int(count.max())
        numbers = row.new_zeros(len(known), most)
        numbers[row, slot] = place
        return numbers, torch.arange(most, device=row.device) < count[:, None]
