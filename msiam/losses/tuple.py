"""Softmax over an anchor's positive and its own negatives: tuples of any length (Sohn, 2016)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pydantic
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from msiam.losses.anchors import anchors_first, below
from msiam.losses.base import Loss, Targets
from msiam.losses.softmax import softmax_cost
from msiam.losses.tiles import (
    distinct,
    exactly,
    exp_,
    matches,
    part,
    row_sums,
    widened,
)
from msiam.registry.options import Options


class TupleOptions(Options):
    temperature: float = pydantic.Field(
        0.05, gt=0, description="the lower, the more the hardest negatives count"
    )
    in_batch: bool = pydantic.Field(
        False, description="the positives and negatives of all other rows are negatives as well"
    )


class NTuple(Loss):
    """−log( exp(s(a, p)) / (exp(s(a, p)) + Σₙ exp(s(a, n))) ), averaged over the rows.

    Takes (B, D) embeddings of three columns or more: an anchor, a positive, and any number of
    negatives; s is the inner product over the temperature. With one negative it is a smooth
    triplet loss, log(1 + exp(s(a, n) − s(a, p))).

    The negatives are the row's own, (B, N) similarities, or with ``in_batch`` those of all rows and
    the other rows' positives too: each anchor must then find its positive among the B·(N + 1)
    items of all columns but the first. That matrix is never built.

    A negative of the anchor's group is left out. A row of which none is left, or that is labelled
    not the same, costs nothing and is not counted; in the batch, its items still are negatives.

    Papers: Sohn, Improved Deep Metric Learning with Multi-class N-pair Loss Objective, NeurIPS 2016
    (the (N + 1)-tuplet loss); Karpukhin et al., Dense Passage Retrieval for Open-Domain Question
    Answering, EMNLP 2020 (a row's own negatives and the batch's).
    """

    Options = TupleOptions
    columns = (3,)
    more = True

    def in_batch(self, columns: int) -> bool:
        return bool(self.options.in_batch)

    def shares(self, columns: int) -> bool:
        return bool(self.options.in_batch)

    def forward(self, embeddings: Mapping[str, Tensor], targets: Targets) -> Tensor:
        wide = dict(zip(embeddings, widened(*embeddings.values()), strict=True))
        return self._in_batch(wide, targets) if self.options.in_batch else self._own(wide, targets)

    def _own(self, embeddings: Mapping[str, Tensor], targets: Targets) -> Tensor:
        """The positive among its row's own negatives."""
        anchor, positive, *negatives = embeddings.values()
        of_anchor, _, *groups = (targets.groups[column] for column in embeddings)
        there = torch.stack(groups) != of_anchor
        if targets.same is not None:
            there &= targets.same
        return _OwnCost.apply(there, self.options.temperature, anchor, positive, *negatives)

    def _in_batch(self, embeddings: Mapping[str, Tensor], targets: Targets) -> Tensor:
        """The positive among those of all rows and their negatives."""
        (anchor, *others), positive, count = anchors_first(embeddings, targets)
        asked, candidates = anchor.part(0, count), below(*others)
        groups = asked.groups, candidates.groups
        if targets.same is None and distinct(*groups):
            weights = anchor.vectors.new_full((count,), 1 / max(count, 1))
        else:
            known = matches(*groups) - (asked.groups == candidates.groups[:count]).long()
            kept = positive[:count] & (known < len(candidates.groups) - 1)
            weights = kept / kept.sum().clamp(min=1)
        scale = anchor.vectors.new_tensor(1 / self.options.temperature)
        own = targets.own(count)
        weights = part(weights, slice(0, own))
        vectors = part(asked.vectors, slice(0, own)), candidates.vectors
        groups = part(asked.groups, slice(0, own)), candidates.groups
        return softmax_cost(*vectors, scale, groups, (weights, None))


class _OwnCost(torch.autograd.Function):
    """−log softmax of a·p / temperature among it and a·n, averaged over the rows with an n.

    ``there`` are (N, B) booleans, which negatives count. A row without any costs 0.
    """

    @staticmethod
    def forward(
        ctx: Any, there: Tensor, temperature: float, a: Tensor, p: Tensor, *negatives: Tensor
    ) -> Tensor:
        with exactly(a.device):
            s = torch.stack([row_sums(a * x) for x in (p, *negatives)]).div_(temperature)
            s[1:].masked_fill_(~there, -torch.inf)
            shares = s.log_softmax(0)
            count = there.any(dim=0).sum().clamp_(min=1)
            cost = shares[0].sum().neg() / count
            slope = exp_(shares)
            slope[0].sub_(1)
        ctx.save_for_backward(slope.div_(count * temperature), a, p, *negatives)
        return cost

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        slope, a, p, *negatives = ctx.saved_tensors
        own, *others = (slope * grads[0])[:, :, None]
        grad_a = p * own
        for negative, of_one in zip(negatives, others, strict=True):
            grad_a.addcmul_(negative, of_one)
        return None, None, grad_a, a * own, *(a * of_one for of_one in others)
