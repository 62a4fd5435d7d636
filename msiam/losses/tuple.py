"""Softmax over an anchor's positive and its own negatives: tuples of any length (Sohn, 2016)."""

from __future__ import annotations

from collections.abc import Mapping

import pydantic
import torch
from torch import Tensor, nn

from msiam.losses.anchors import anchors_first, below
from msiam.losses.base import Loss, Targets
from msiam.losses.rows import row_products
from msiam.losses.softmax import softmax_cost
from msiam.losses.tiles import matches, part, widened
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
        out = of_anchor[:, None] == torch.stack(groups, dim=1)
        if targets.same is not None:
            out |= ~targets.same[:, None]
        count = (~out.all(dim=1)).sum().clamp(min=1)
        own = row_products(anchor, positive)
        s = torch.stack([row_products(anchor, negative) for negative in negatives], dim=1)
        s = ((s - own[:, None]) / self.options.temperature).masked_fill(out, -torch.inf)
        excess = s[:, 0] if len(negatives) == 1 else s.logsumexp(dim=1)
        # What is no number must not look like nothing: training has to stop, and not go on at 0.
        return nn.functional.softplus(excess).sum() / count + 0 * own.sum()

    def _in_batch(self, embeddings: Mapping[str, Tensor], targets: Targets) -> Tensor:
        """The positive among those of all rows and their negatives."""
        (anchor, *others), positive, count = anchors_first(embeddings, targets)
        asked, candidates = anchor.part(0, count), below(*others)
        groups = asked.groups, candidates.groups
        known = matches(*groups) - (asked.groups == candidates.groups[:count]).long()
        kept = positive[:count] & (known < len(candidates.groups) - 1)
        scale = anchor.vectors.new_tensor(1 / self.options.temperature)
        own = targets.own(count)
        weights = part(kept / kept.sum().clamp(min=1), slice(0, own))
        vectors = part(asked.vectors, slice(0, own)), candidates.vectors
        groups = part(asked.groups, slice(0, own)), candidates.groups
        return softmax_cost(*vectors, scale, groups, (weights, None))
