"""A batch that several processes have together, each of them asking for its own rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, distributed

Count = TypeVar("Count", int, Tensor)


@dataclass(frozen=True)
class Share:
    """Which of a batch's anchors are this process's.

    The B rows of all are here as candidates: its own first, then those of the next ranks, round to
    the one before it. Its own alone are its anchors. What the shares cost adds up to what the batch
    costs, and so do their gradients.

    All processes must call the methods alike, in the same order.

    Attributes:
        rows: how many are its own.
        before: how many the ranks before it have.
        device: where embeddings are.
    """

    rows: int
    before: int
    device: torch.device

    def total(self, count: Count) -> Count:
        """A sum over the processes, without gradient."""
        if isinstance(count, int):
            return int(self.total(torch.tensor(count, device=self.device)))
        count = count.clone()
        distributed.all_reduce(count)
        return count

    def log_total(self, logs: Tensor) -> Tensor:
        """log Σ exp over the processes, of each row of the batch: (B,) to (B,)."""
        logs = self.in_order(logs)
        most = logs.clone()
        distributed.all_reduce(most, distributed.ReduceOp.MAX)
        most.masked_fill_(most.isneginf(), 0)
        sums = (logs - most).exp_()
        distributed.all_reduce(sums)
        return sums.log_().add_(most).roll(-self.before)

    def in_order(self, rows: Tensor) -> Tensor:
        """(B, …) in the order of the ranks, which is the same in all processes."""
        return rows.roll(self.before, 0)
