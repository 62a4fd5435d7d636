"""Features to vectors, in batches of like length, order restored."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from msiam.towers.encoder import Encoder

Progress = Callable[[int], None]


@torch.no_grad()
def run_features(
    module: nn.Module,
    encoder: Encoder,
    features: Sequence[np.ndarray],
    dim: int,
    batch_size: int = 64,
    progress: Progress | None = None,
) -> np.ndarray:
    """What a module makes of prepared features: (n, dim) float32, in their order.

    Batches hold features of like length, the longest first: the least padding, and memory that
    does not suffice shows at once.

    Args:
        module: the encoder, or the tower around it.
        encoder: whose features they are.
    """
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    vectors = np.empty((len(features), dim), dtype=np.float32)
    costs = np.array([encoder.cost(feature) for feature in features], dtype=np.int64)
    order = np.argsort(-costs, kind="stable")
    training = module.training
    module.eval()
    try:
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            batch = encoder.collate([features[row] for row in rows])
            batch = {name: tensor.to(device) for name, tensor in batch.items()}
            vectors[rows] = module(batch).float().cpu().numpy()
            if progress is not None:
                progress(len(rows))
    finally:
        module.train(training)
    return vectors
