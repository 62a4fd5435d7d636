"""A score at every displacement, and logistic regression on where the target is."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from msiam import Loss, Options, Targets, errors
from msiam_tracking.geometry import KERNEL, PLACES, SCORES, STRIDE


class ScoreMapOptions(Options):
    """The options of score_map."""

    radius: float = Field(
        16, gt=0, description="how far from the middle, in pixels of the crop, a place is right"
    )


class ScoreMap(Loss):
    """Σᵤ wᵤ log(1 + exp(−yᵤ v(u))), averaged over the rows and over both ways.

    Two columns on one tower of feature maps, (B, C · 22 · 22) each, of crops round one target. The
    middle 6 × 6 places of one map, which see what an exemplar's crop shows, are correlated with
    the whole other map: v(u), a score at each of 17 × 17 displacements u, times a scale that is
    learnt, plus a bias. y is 1 within ``radius`` of the middle and −1 beyond, and the weights w
    give each of the two half of the sum. Either crop is the other's exemplar, since both are
    embedded whole anyway. In a row that is labelled not the same, all y are −1 alike.

    Paper: Bertinetto et al., Fully-Convolutional Siamese Networks for Object Tracking, ECCV
    Workshops 2016 (equations 3 to 6).
    """

    Options = ScoreMapOptions
    gathers = False

    def __init__(self, options: ScoreMapOptions) -> None:
        super().__init__(options)
        self.scale = nn.Parameter(torch.tensor(10.0))
        self.bias = nn.Parameter(torch.tensor(0.0))
        here = offsets() <= options.radius
        weights = torch.where(here, 0.5 / here.sum(), 0.5 / (~here).sum())
        self.register_buffer("here", here, persistent=False)
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, embeddings: Mapping[str, Tensor], targets: Targets) -> Tensor:
        one, other = (as_maps(vectors) for vectors in embeddings.values())
        if not len(one):
            return one.sum() + other.sum()  # of no rows, there is no convolution
        positive = targets.positive(len(one), one.device)[:, None, None]
        weights = torch.where(positive, self.weights, 1 / SCORES**2)
        sign = torch.where(positive & self.here, 1.0, -1.0)
        costs = [
            F.softplus(-sign * (self.scale * correlate(middle(a), b) + self.bias))
            for a, b in ((one, other), (other, one))
        ]
        return (torch.stack(costs) * weights).sum((2, 3)).mean()


def as_maps(vectors: Tensor) -> Tensor:
    """Embeddings (B, C · 22 · 22) as the maps that they are, (B, C, 22, 22).

    Raises:
        RecipeError: they are of another length.
    """
    if vectors.shape[1] % PLACES**2:
        raise errors.RecipeError(
            f"loss.name: score_map compares feature maps of {PLACES} × {PLACES} places, and finds "
            f"embeddings of {vectors.shape[1]} numbers; let the tower have encoder: siamfc, "
            "head: none, normalize: false"
        )
    return vectors.float().unflatten(1, (-1, PLACES, PLACES))


def middle(maps: Tensor) -> Tensor:
    """The exemplar in a search region's map: its middle, (B, C, 6, 6)."""
    start = (PLACES - KERNEL) // 2
    return maps[:, :, start : start + KERNEL, start : start + KERNEL]


def correlate(exemplars: Tensor, maps: Tensor) -> Tensor:
    """Each exemplar (B, C, k, k) at all displacements in its map (B, C, s, s).

    The mean over channels and places of their products, (B, s − k + 1, s − k + 1): one grouped
    convolution.
    """
    count, channels, side, _ = exemplars.shape
    stacked = maps.reshape(1, count * channels, *maps.shape[2:])
    return F.conv2d(stacked, exemplars, groups=count)[0] / (channels * side**2)


def offsets() -> Tensor:
    """How far each score of a map is from its middle, in pixels of the crop, (17, 17)."""
    line = (torch.arange(SCORES) - SCORES // 2).float() * STRIDE
    return torch.hypot(line[:, None], line[None, :])
