"""Squared Euclidean distances between two sets of points, exact where they are small as well."""

from __future__ import annotations

import torch
from torch import Tensor

from msiam.losses.tiles import exactly, widened

#: Squared distances below this share of the lengths are made again from the differences.
CLOSE = 1e-2


def centred(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Both in float32 or more, moved to where b's mean is zero.

    |a|² + |b|² − 2ab loses the digits that |a|² has before |a − b|²: fewer if both are short.
    """
    one, (a, b) = a is b, widened(a, b)
    with exactly(b.device):
        mean = b.new_ones(len(b)) @ b / max(len(b), 1)  # mean() wakes threads for nothing
    b = b - mean
    return b if one else a - mean, b


def squared_lengths(vectors: Tensor) -> Tensor:
    """(N,) of (N, D), without their squares in between."""
    return vectors.norm(dim=1).square_()


def squared_distances(
    a: Tensor, b: Tensor, lengths: tuple[Tensor, Tensor], sharp: bool = False
) -> Tensor:
    """(N, M) squared distances.

    Args:
        a, b: (N, D) and (M, D), best ``centred``.
        lengths: (N,) and (M,), their squared lengths.
        sharp: distances near zero are to be as exact as others; a square root needs that.
    """
    of_a, of_b = lengths[0][:, None], lengths[1]
    with exactly(a.device):
        squared = torch.addmm(of_b, a, b.T, alpha=-2).add_(of_a).clamp_(min=0)
    if sharp:
        near = (squared < (of_a + of_b).mul_(CLOSE)).nonzero()
        for some in near.split(max(1, squared.numel() // a.shape[1])):
            i, j = some.unbind(dim=1)
            squared[i, j] = (a[i] - b[j]).pow(2).sum(dim=1)
    return squared
