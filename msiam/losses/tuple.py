"""Softmax over an anchor's positive and its own negatives: tuples of any length (Sohn, 2016)."""

from __future__ import annotations

from collections.abc import Mapping

import pydantic
import torch
from torch import Tensor, nn

from msiam.losses.base import Loss, Targets
from msiam.losses.tiles import widened
from msiam.losses.tiles_groups import LogSum, Pairs, Side, sums_over
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

    def forward(self, embeddings: Mapping[str, Tensor], targets: Targets) -> Tensor:
        anchor, positive, *negatives = widened(*embeddings.values())
        groups, *others = (targets.groups[column] for column in embeddings)
        kept = targets.positive(len(anchor), anchor.device)
        scale = 1 / self.options.temperature
        own = scale * (anchor * positive).sum(dim=1)
        if self.options.in_batch:
            rows = torch.arange(len(anchor), device=anchor.device)
            if targets.anchors is not None:
                rows = targets.anchors.nonzero()[:, 0]
                anchor, groups, own, kept = (of[rows] for of in (anchor, groups, own, kept))
            # A row's own positive is one, whatever the groups say.
            same = torch.ones_like(rows, dtype=torch.bool)
            pairs = Pairs(groups, torch.cat(others), partner=rows, same=same)
            side = Side(anchor, torch.cat([positive, *negatives]), pairs)
            negative = LogSum("negatives", lambda s: s * scale, lambda s: scale)
            found = sums_over([side], [negative])[0].log_sums[0]
            kept = kept & ~found.isneginf()
            rest = found[kept]
        else:
            known = groups[:, None] == torch.stack(others[1:], dim=1)
            kept = kept & ~known.all(dim=1)
            each = [scale * (anchor * vector).sum(dim=1) for vector in negatives]
            s = torch.stack(each, dim=1).masked_fill(known, -torch.inf)
            rest = s[kept].logsumexp(dim=1)  # of −∞ alone it has no gradient
        cost = nn.functional.softplus(rest - own[kept]).sum() / kept.sum().clamp(min=1)
        return cost + 0 * own.detach().sum()  # where no row counts, too, NaN is no 0
