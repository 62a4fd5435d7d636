"""Margin MSE: by how much a teacher prefers one item to another (Hofstätter et al., 2020)."""

from __future__ import annotations

from collections.abc import Mapping

import pydantic
from torch import Tensor, nn

from msiam.losses.base import Loss, Targets
from msiam.losses.rows import row_products
from msiam.losses.tiles import widened
from msiam.registry.options import Options


class MarginMSEOptions(Options):
    scale: float = pydantic.Field(
        1.0,
        gt=0,
        description="what similarities are multiplied by, to be as wide as the scores; embeddings "
        "of length 1 have similarities between -1 and 1",
    )


class MarginMSE(Loss):
    """The mean of ((s(a, p) − s(a, n)) − score)², with s the inner product times the scale.

    Takes (B, D) embeddings of three columns, anchor a, positive p and negative n, and of each row
    a score: by how much a teacher, such as a cross-encoder, holds p to be more alike to a than n
    is. The margin may be below 0, where the teacher disagrees. A row whose negative belongs to the
    anchor's group is left out; of no rows at all the loss is 0. Labels of pairs mean nothing here.

    Of two columns the score is that of the pair, and the loss the mean of (s(a, p) − score)²: in
    sentence-transformers, CosineSimilarityLoss.

    Paper: Hofstätter, Althammer, Schröder, Sertkan and Hanbury, Improving Efficient Neural Ranking
    Models with Cross-Architecture Knowledge Distillation, 2020.
    """

    Options = MarginMSEOptions
    columns = (2, 3)
    needs = ("scores",)

    def forward(self, embeddings: Mapping[str, Tensor], targets: Targets) -> Tensor:
        anchor, other, *negative = widened(*embeddings.values())
        of_anchor, *groups = (targets.groups[column] for column in embeddings)
        if negative:  # a·p − a·n is a·(p − n)
            other = other - negative[0]
        assert targets.scores is not None
        s, scores = row_products(anchor, other), targets.scores.to(anchor)
        if self.options.scale != 1:
            s = self.options.scale * s
        if not negative:
            return nn.functional.mse_loss(s, scores) if len(s) else s.sum()
        kept = of_anchor != groups[1]
        return ((s - scores).square() * kept).sum() / kept.sum().clamp(min=1)
