"""What two processes compute, and what they hold, for the loss of a batch that they share.

``torchrun --nproc-per-node 2 tests/training/sharing.py FILE`` writes what the busier one found.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from msiam.losses import tiles
from msiam.losses.base import Targets, WeightedSum
from msiam.registry import registry
from msiam.registry.options import parse_options
from msiam.training import processes

ROWS, DIM = 192, 16
#: For memory: a matrix of all pairs would take 64 MiB, and what is held of a block 256 KiB.
MANY, TILE = 4096, 1 << 16
#: Of so many rows, all take 64 MiB, and those of a process half of it.
LONG, WIDE = 8192, 2048

VARIANTS: dict[str, list[dict[str, Any]]] = {
    "infonce": [{"pool": True}, {"directions": "first"}],
    "triplet": [{"miner": "all"}, {"miner": "distance_weighted"}],
    "tuple": [{"in_batch": True}],
}


class Case(NamedTuple):
    """A loss of so many columns, whose rows are each other's candidates."""

    loss: str
    options: dict[str, Any]
    columns: int

    def build(self) -> WeightedSum:
        cls = registry().find("loss", self.loss).load()
        return WeightedSum([cls(parse_options(cls, self.options, self.loss))], [1.0])


def cases() -> Iterator[Case]:
    for spec in registry().specs("loss"):
        cls = spec.load()
        for options in ({}, *VARIANTS.get(spec.name, [])):
            loss = cls(parse_options(cls, options, spec.name))
            for columns in loss.columns:
                if loss.in_batch(columns) and not (options.get("pool") and columns == 1):
                    yield Case(spec.name, options, columns)


Cost = Callable[[Mapping[str, Tensor], Targets], Tensor]


def step(cost: Cost, columns: int, rows: Tensor, dim: int) -> None:
    """The gradients of some rows of a batch, where each group has three."""
    vectors, groups = {}, {}
    for place in range(columns):
        random = torch.Generator().manual_seed(place)
        all_rows = torch.randn(int(rows.max()) + 1, dim, generator=random)
        vectors[f"c{place}"] = nn.functional.normalize(all_rows[rows], dim=1).requires_grad_()
        groups[f"c{place}"] = rows // 3 + place // 2 * 100_000
    cost(vectors, Targets(groups)).backward()


def work(case: Case) -> float:
    """Multiplications of this process for those of one that has all rows."""
    rows, loss = torch.arange(ROWS), case.build()
    counted = []
    for cost, some in (
        (loss, rows),
        (lambda *of: processes.global_loss(loss, *of), own(rows)),
    ):
        with FlopCounterMode(display=False) as counter:
            step(cost, case.columns, some, DIM)
        counted.append(counter.get_total_flops())
    return counted[1] / counted[0]


def own(rows: Tensor) -> Tensor:
    """The share of this process."""
    return rows.tensor_split(processes.count())[processes.rank()]


def peak() -> float:
    """MiB that this process held at most since ``forget``."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def forget() -> float:
    """The peak is what is held now; that."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak()


def memory(case: Case) -> float:
    """MiB that a step of ``MANY`` rows takes."""
    loss = case.build()
    before = forget()
    step(lambda *of: processes.global_loss(loss, *of), case.columns, own(torch.arange(MANY)), 16)
    return peak() - before


def gathering() -> tuple[float, float]:
    """MiB above a process's own rows: forward, and backward above the gradient of all rows."""
    rows = torch.ones(len(own(torch.arange(LONG + 1))), WIDE).requires_grad_()
    counts = processes.row_counts(rows)
    before = forget()
    found = processes.gather(rows, counts)
    forward = peak() - before
    gradient = found.detach()
    before = forget()
    found.backward(gradient)
    return forward, peak() - before


if __name__ == "__main__":
    with processes.together():
        torch.set_num_threads(1)
        found = dict(zip(("forward", "backward"), gathering(), strict=True))
        found |= {f"work of {case}": work(case) for case in cases()}
        tiles.TILE = TILE
        found |= {f"memory of {case}": memory(case) for case in cases()}
        most = torch.tensor(list(found.values()))
        torch.distributed.all_reduce(most, torch.distributed.ReduceOp.MAX)
        if processes.is_main():
            torch.save(dict(zip(found, most.tolist(), strict=True)), Path(sys.argv[1]))
        processes.wait()
