"""Triplet loss: given triplets, mined ones, or all of a batch (Schroff et al. 2015)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pydantic
from torch import Tensor, nn

from msiam.errors import RecipeError
from msiam.losses.base import Loss, Targets
from msiam.losses.rows import row_distances, row_squared_distances
from msiam.losses.tiles import widened
from msiam.registry import registry
from msiam.registry.options import Options, Term, parse_options

Distance = Literal["euclidean", "squared", "cosine"]


class TripletOptions(Options):
    margin: float = pydantic.Field(
        0.2, gt=0, description="how much nearer the positive must be; a soft one has no margin"
    )
    distance: Distance = pydantic.Field(
        "squared", description="FaceNet's is squared; cosine: 1 − cos, whatever the lengths"
    )
    soft: bool = pydantic.Field(
        False, description="log(1 + exp(near − far)) in the place of a margin (Hermans et al. 2017)"
    )
    miner: Term = pydantic.Field(
        Term(name="hard"),
        description="which negatives of the batch to take where there are one or two columns: "
        "its name, or {name: …} with its options",
    )
    positives: Literal["row", "hardest", "all"] | None = pydantic.Field(
        None,
        description="which positives an anchor meets: that of its row, the farthest of its group, "
        "or all of it; null: as the miner's paper has it, and of two columns the row's",
    )
    average: Literal["all", "nonzero"] = pydantic.Field(
        "all", description="over all triplets, or over those that cost something"
    )


class Triplet(Loss):
    """max(d(anchor, positive) − d(anchor, negative) + margin, 0), averaged over the triplets.

    Takes (B, D) embeddings of each column.

    - Three columns are anchor, positive and negative. A row whose negative belongs to the
      anchor's group costs nothing.
    - Of two, each positive row is an anchor with its positive, and a miner picks the negative out
      of the batch's second column. With ``positives: hardest`` or ``all``, and with the miner
      ``all``, items of the anchor's group in other rows are positives as well, but for a row's own
      that is labelled not the same.
    - One is a batch of items whose groups are their classes: each is an anchor, the others of its
      class are positives and the rest negatives. The miner ``hard`` is then batch-hard, with the
      farthest positive, and ``all`` is batch-all. Labels of pairs mean nothing here.

    Papers: FaceNet: A Unified Embedding for Face Recognition and Clustering, CVPR 2015; Hermans,
    Beyer and Leibe, In Defense of the Triplet Loss for Person Re-Identification, 2017 (batch-hard,
    batch-all, the soft margin).
    """

    Options = TripletOptions
    columns = (1, 2, 3)
    euclidean = True

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        miner = registry().find("miner", options.miner.name, "loss.miner").load()
        self.miner = miner(parse_options(miner, options.miner.options, "loss.miner"))

    def in_batch(self, columns: int) -> bool:
        return columns < 3

    def shares(self, columns: int) -> bool:
        return columns < 3 and not self.miner.draws

    def forward(self, embeddings: Mapping[str, Tensor], targets: Targets) -> Tensor:
        vectors = [ready(vector, self.options.distance) for vector in embeddings.values()]
        groups = [targets.groups[column] for column in embeddings]
        if len(vectors) == 3:
            kept = groups[0] != groups[2]  # no negative that is known to match through other rows
            kept = kept if targets.same is None else kept & targets.same
            cost, count = self._given(vectors, kept)
            return cost / count.clamp(min=1)
        same = targets.positive(len(vectors[0]), vectors[0].device)
        anchors, mine, places = vectors[0], groups[0], None
        asked = targets.asked(len(anchors), anchors.device)
        if asked is not None:
            places = asked.nonzero()[:, 0]
            anchors, mine, same = anchors[places], mine[places], same[places]
        pairs = same if len(vectors) == 2 else None
        cost, count = self._mined((anchors, vectors[-1], mine, groups[-1], pairs, places))
        # A miner may pass over what is no number. Then training must stop, and not go on at 0.
        sizes = sum(vector.detach().norm() for vector in vectors)
        return cost / targets.total(count).clamp(min=1) + 0 * sizes

    def _mined(self, pool: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
        """What the batch's triplets cost, and over how many to average."""
        positives = self._positives(pairs=pool[4] is not None)
        margin = None if self.options.soft else self.options.margin
        cost, count, costly = self.miner.total(pool, positives, self.options.distance, margin)
        return cost, count if self.options.average == "all" else costly

    def _positives(self, pairs: bool) -> str:
        if self.options.positives == "row" and not pairs:
            raise RecipeError(
                "loss.positives: of one column, rows are no pairs; found 'row', take hardest or all"
            )
        default = "row" if pairs and not self.miner.every else self.miner.positives
        return self.options.positives or default

    def _given(self, vectors: Sequence[Tensor], kept: Tensor) -> tuple[Tensor, Tensor]:
        """As ``_mined``, of triplets that are given, (B, D) each, where they are kept."""
        (anchor, positive, negative), kind = vectors, self.options.distance
        nearer = distance(anchor, positive, kind) - distance(anchor, negative, kind)
        if self.options.soft:
            cost = nn.functional.softplus(nearer)
        else:
            cost = (nearer + self.options.margin).clamp(min=0)
        counted = kept.to(cost.dtype)
        total = cost @ counted
        if self.options.average == "nonzero":
            counted = counted * (cost > 0)
        return total, counted.sum()


def ready(vectors: Tensor, kind: Distance) -> Tensor:
    """Embeddings as ``distance`` wants them: for the cosine, of length 1 in float32 or more."""
    if kind != "cosine":
        return vectors
    return nn.functional.normalize(widened(vectors)[0], dim=1)


def distance(a: Tensor, b: Tensor, kind: Distance) -> Tensor:
    """(B,) distances of two (B, D) that are ``ready``."""
    if kind == "euclidean":
        return row_distances(a, b)
    squared = row_squared_distances(a, b)
    return squared / 2 if kind == "cosine" else squared
