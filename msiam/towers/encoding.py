"""Features to vectors, in batches of like length, order restored."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import nn

from msiam.towers.encoder import Encoder
from msiam.towers.inference import EXACT, How, for_inference

Progress = Callable[[int], None]


@torch.no_grad()
def run_features(
    module: nn.Module,
    encoder: Encoder,
    features: Sequence[np.ndarray],
    dim: int,
    progress: Progress | None = None,
    how: How = EXACT,
) -> np.ndarray:
    """What a module makes of prepared features: (n, dim) float32, in their order.

    Args:
        module: the encoder, or the tower around it.
        encoder: whose features they are.
    """
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    vectors = np.empty((len(features), dim), dtype=np.float32)
    costs = np.array([encoder.cost(feature) for feature in features], dtype=np.int64)
    if costs.sum() <= encoder.budget:  # one batch: laying weights out takes longer than it gains
        how = dataclasses.replace(how, optimize=False)
    with for_inference(module, how):
        for rows in batches(costs, encoder.budget, how.batch_size):
            batch = encoder.collate([features[row] for row in rows])
            batch = {name: tensor.to(device) for name, tensor in batch.items()}
            vectors[rows] = module(batch).float().cpu().numpy()
            if progress is not None:
                progress(len(rows))
    return vectors


def batches(costs: np.ndarray, budget: int, most: int | None = None) -> Iterator[np.ndarray]:
    """Positions by falling cost, as many a batch as the budget has room for.

    The longest come first: the least padding, and memory that does not suffice shows at once.

    Args:
        costs: (n,) of each feature, 1 at least.
        budget: what a batch may cost, its items times its longest; a feature that costs more is
            a batch alone.
        most: the most features of a batch.
    """
    order = np.argsort(-costs, kind="stable")
    start = 0
    while start < len(order):
        room = max(1, budget // max(1, int(costs[order[start]])))
        stop = start + (room if most is None else min(room, most))
        yield order[start:stop]
        start = stop
