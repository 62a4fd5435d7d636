"""Quadruplet loss (Chen, Chen, Zhang and Huang, 2017)."""

from __future__ import annotations

from collections.abc import Mapping

import pydantic
from torch import Tensor

from msiam.losses.base import Loss, Targets
from msiam.losses.triplet import Distance, distance, ready
from msiam.registry.options import Options


class QuadrupletOptions(Options):
    margin: float = pydantic.Field(
        0.2, gt=0, description="how much nearer than the negative the positive must be"
    )
    second_margin: float = pydantic.Field(
        0.1,
        gt=0,
        description="how much nearer than two negatives are to each other; the paper has the half "
        "of margin",
    )
    distance: Distance = pydantic.Field(
        "squared", description="the paper's is squared; cosine: 1 − cos, whatever the lengths"
    )


class Quadruplet(Loss):
    """max(d(a, p) − d(a, n) + m₁, 0) + max(d(a, p) − d(n, o) + m₂, 0), averaged over rows.

    Takes (B, D) embeddings of four columns: anchor a, positive p, negative n and another negative
    o. The first term is the triplet loss. The second asks that a pair which belongs together be
    nearer than two items of other pairs, whoever the anchor: classes become tighter and lie
    farther apart. It is the weaker of the two, so that its margin is the smaller one.

    Each term is averaged over the rows where it holds and costs nothing in the others: the first
    holds where n is of another group than a, the second where a, n and o are of three groups, and
    neither where the row is labelled not the same.

    Paper: Beyond Triplet Loss: A Deep Quadruplet Network for Person Re-Identification, CVPR 2017.
    There, d is the square of a metric that is learnt; here it is that of the embeddings.
    """

    Options = QuadrupletOptions
    columns = (4,)
    euclidean = True

    def forward(self, embeddings: Mapping[str, Tensor], targets: Targets) -> Tensor:
        kind = self.options.distance
        anchor, positive, negative, other = (ready(v, kind) for v in embeddings.values())
        of_anchor, _, of_negative, of_other = (targets.groups[column] for column in embeddings)
        apart = of_anchor != of_negative
        apart = apart & targets.positive(len(anchor), anchor.device)
        wider = apart & (of_anchor != of_other) & (of_negative != of_other)
        near = distance(anchor, positive, kind)
        first = near - distance(anchor, negative, kind) + self.options.margin
        second = near - distance(negative, other, kind) + self.options.second_margin
        return mean_cost(first, apart) + mean_cost(second, wider)


def mean_cost(excess: Tensor, kept: Tensor) -> Tensor:
    """The mean of max(excess, 0) over the rows that are kept; 0 of none, and NaN where one is."""
    return (excess.clamp(min=0) * kept).sum() / kept.sum().clamp(min=1)
