"""From the states of a text's tokens to one vector."""

from __future__ import annotations

import torch
from torch import Tensor


def pool(kind: str, states: Tensor, mask: Tensor | None = None) -> Tensor:
    """States (b, t, d) to float32 vectors (b, d).

    `mask` (b, t) is 1 at tokens and 0 at the padding behind them; None: there is no padding.
    """
    if mask is None:
        mask = states.new_ones(states.shape[:2], dtype=torch.int64)
    states = states.float()  # a mean of many needs more than bfloat16
    if kind == "cls":
        return states[:, 0]
    if kind == "last":
        return states[torch.arange(len(states), device=states.device), mask.sum(1) - 1]
    if kind == "max":
        return states.masked_fill(mask[..., None] == 0, float("-inf")).amax(1)
    weights = mask[..., None]
    return (states * weights).sum(1) / weights.sum(1)
