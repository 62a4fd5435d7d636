"""The distance matrix of anchors and candidates, a block of rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from msiam.losses.distances import centred, squared_distances, squared_lengths
from msiam.losses.tiles import FEW, row_blocks

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

    @property
    def few(self) -> bool:
        """Whether a mask of all pairs takes less than to rank the groups."""
        return len(self.anchors) * len(self.candidates) <= FEW

    @cached_property
    def ranked(self) -> tuple[Tensor, Tensor, Tensor]:
        """(N,) numbers of candidates, group by group, and (A,) where among them an anchor's group
        begins, and how many are of it."""
        order = self.candidate_groups.argsort(stable=True)
        ranked = self.candidate_groups[order]
        first = torch.searchsorted(ranked, self.anchor_groups)
        return order, first, torch.searchsorted(ranked, self.anchor_groups, right=True) - first

    @cached_property
    def most(self) -> int:
        """How many candidates the largest of the anchors' groups has, and 1 at least."""
        return max(int(self.ranked[2].max()), 1)

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
        return self.known.all(dim=1) if self.pool.few else self.negatives == 0

    @cached_property
    def negatives(self) -> Tensor:
        """(r,) how many negatives an anchor has."""
        known = self.pool.ranked[2][self.rows]
        if self._odd is not None:
            known = known + self._odd[:, 0]
        return len(self.candidate_groups) - known

    def fill_known(self, matrix: Tensor, value: float) -> Tensor:
        """An (r, N) matrix, with a value for who belongs together."""
        if self.pool.few:
            return matrix.masked_fill(self.known, value)
        numbers, there = self._group
        known = matrix.gather(1, numbers).masked_fill_(there[:, :1], value)
        filled = matrix.scatter(1, numbers, known)
        if self._odd is not None:
            own = filled.gather(1, self.places).masked_fill_(self._odd, value)
            filled.scatter_(1, self.places, own)
        return filled

    @cached_property
    def _group(self) -> tuple[Tensor, Tensor]:
        """(r, P) numbers of the candidates of an anchor's group, and whether there is one.

        Where there are fewer than P, the first of them fills up. Of a group without candidates,
        the number is some other candidate's.
        """
        order, first, count = self.pool.ranked
        first, count = first[self.rows, None], count[self.rows, None]
        slots = torch.arange(self.pool.most, device=first.device)
        there = slots < count
        return order[(first + slots * there).clamp_(max=len(order) - 1)], there

    @cached_property
    def _odd(self) -> Tensor | None:
        """(r, 1) booleans: the anchor's pair belongs to it, though to another group."""
        if self.pool.same is None:
            return None
        of_place = self.candidate_groups[self.places]
        return self.pool.same[self.rows, None] & (of_place != self.anchor_groups[:, None])

    @cached_property
    def squared(self) -> Tensor:
        """(r, N) squared Euclidean distances."""
        anchors, candidates = self.pool.centred[0][self.rows], self.pool.centred[1]
        lengths = (self.pool.lengths[0][self.rows], self.pool.lengths[1])
        return squared_distances(anchors, candidates, lengths, self.pool.sharp)

    @cached_property
    def far(self) -> Tensor:
        """(r, N) squared distances of the negatives; those of the others are infinite."""
        return self.fill_known(self.squared, torch.inf)

    def positives(self, which: Positives) -> tuple[Tensor, Tensor]:
        """(r, P) numbers of candidates, and whether there is one: some anchors have fewer."""
        same = None if self.pool.same is None else self.pool.same[self.rows, None]
        if which == "row":
            assert same is not None, "rows are no pairs"
            return self.places, same
        if which == "hardest" and self.pool.few:
            known = self.known.scatter(1, self.places, False if same is None else same)
            farthest = self.squared.masked_fill(~known, -torch.inf).argmax(dim=1)
            return farthest[:, None], known.any(dim=1)[:, None]
        numbers, there = self._group
        there = there & (numbers != self.places)
        if same is not None:  # a pair is what it is labelled, whatever its groups
            numbers, there = torch.cat([numbers, self.places], 1), torch.cat([there, same], 1)
        if which == "all":
            return numbers, there
        distances = self.squared.gather(1, numbers).masked_fill_(~there, -torch.inf)
        farthest = distances.argmax(dim=1, keepdim=True)
        return numbers.gather(1, farthest), there.any(dim=1, keepdim=True)
