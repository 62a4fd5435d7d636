"""The gradients of every registered loss, on as many processes as run this file.

``torchrun --nproc-per-node 2 tests/training/gradients.py FILE`` writes what the first one found.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from msiam.losses.base import WeightedSum
from msiam.registry import registry
from msiam.registry.options import parse_options
from msiam.training import processes
from msiam.training.objective import Objective

ROWS = 17  # the first of two processes has one more than the other
WIDTH, DIM, ITEMS = 6, 8, 20
DIMS = {"score_map": 22 * 22}  # embeddings that are maps
WITH_ANOTHER = "beside a loss that each computes whole"
NAMES = ("one", "two", "three", "four")

#: Options beside the defaults: what makes a loss take another way through its rows.
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "contrastive": [{"balanced": True}],
    "triplet": [
        {"miner": "semi_hard"},
        {"miner": "all", "average": "nonzero"},
        {"miner": {"name": "hardest_k", "k": 3}, "positives": "all"},
        {"miner": "distance_weighted"},
    ],
    "tuple": [{"in_batch": True}],
    "supcon": [{"pool": True}],
    "matryoshka": [{"loss": "contrastive"}, {"loss": "sigmoid"}, {"loss": "cosine_embedding"}],
    "memory": [{"start": 0, "size": 20}, {"loss": "supcon", "start": 0, "size": 20}],
}


class Case(NamedTuple):
    """One loss, what is said of the rows, and how its columns share towers."""

    loss: str
    options: dict[str, Any]
    columns: int
    kind: str
    towers: str

    def __str__(self) -> str:
        options = f" {self.options}" if self.options else ""
        return (
            f"{self.loss}{options}, {self.columns} columns, {self.kind or 'pairs'}, {self.towers}"
        )


def cases() -> Iterator[Case]:
    """Every registered loss with each number of columns and each kind of targets that it takes."""
    for spec in registry().specs("loss"):
        cls = spec.load()
        for options in ({}, *VARIANTS.get(spec.name, [])):
            loss = cls(parse_options(cls, options, spec.name))
            for columns in loss.columns:
                if options.get("pool") and columns == 1:
                    continue
                for kind in loss.needs or ("", "labels"):
                    yield Case(spec.name, options, columns, kind, "shared")
                    if columns > 1:
                        yield Case(spec.name, options, columns, kind, "unshared")
    yield Case("infonce", {}, 2, "", "one frozen")
    yield Case("contrastive", {}, 2, "labels", "one frozen")
    yield Case("infonce", {}, 2, "", "in chunks")
    yield Case("infonce", {}, 2, "", "accumulated")
    yield Case("infonce", {}, 2, "", WITH_ANOTHER)
    yield Case("contrastive", {}, 2, "labels", "accumulated")


class Towers(nn.Module):
    """What ``Objective`` asks of a model, in float64."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        names, dim = NAMES[: case.columns], DIMS.get(case.loss, DIM)
        unshared = case.towers in ("unshared", "one frozen")
        self.columns = {name: name if unshared else "all" for name in names}
        self.towers = nn.ModuleDict({name: Tower(dim) for name in set_of(self.columns.values())})
        if case.towers == "one frozen":
            self.towers[names[-1]].requires_grad_(False)

    def tower(self, name: str) -> nn.Module:
        return self.towers[name]


class Tower(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(WIDTH, 10), nn.Linear(10, dim)
        self.unused = nn.Linear(2, 2)  # as pretrained encoders have them

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return nn.functional.normalize(self.second(self.first(batch["items"]).tanh()), dim=1)


def set_of(names: Any) -> list[str]:
    """Each name once, in order."""
    return list(dict.fromkeys(names))


def step(case: Case, model: Towers, rows: Tensor, seed: int) -> dict[str, Any]:
    """Some rows of a global batch as the collator has them: each distinct item once.

    The first row and row 15, of different processes, have an item in common.
    """
    random = torch.Generator().manual_seed(seed)
    items = torch.randn(ITEMS * len(NAMES), WIDTH, generator=random, dtype=torch.float64)
    number = torch.arange(ROWS)
    own = number.where(number != 15, torch.zeros_like(number))
    batch: dict[str, Any] = {"batches": {}, "index": {}, "groups": {}}
    for tower in set_of(model.columns.values()):
        columns = [column for column, name in model.columns.items() if name == tower]
        numbers = torch.stack([own[rows] + ITEMS * NAMES.index(column) for column in columns])
        distinct, places = numbers.unique(return_inverse=True)
        chunks = items[distinct].split(5 if case.towers == "in chunks" else ROWS * len(NAMES))
        batch["batches"][tower] = [{"items": chunk} for chunk in chunks]
        batch["index"] |= dict(zip(columns, places, strict=True))
    same = number % 3 != 1
    for place, column in enumerate(model.columns):
        group = own + 100 * place if place > 1 else own
        if place == 1 and case.kind == "labels":
            group = own.where(same, own + 100)
        if case.kind == "classes" or case.columns == 1:
            group = number % 5
        batch["groups"][column] = group[rows]
    if case.kind == "labels":
        batch["same"] = same[rows]
    if case.kind == "scores":
        batch["scores"] = (number[rows] % 7 / 6).double()
    return batch


def build(case: Case) -> Objective:
    torch.manual_seed(0)
    model = Towers(case)
    cls = registry().find("loss", case.loss).load()
    losses, weights = [cls(parse_options(cls, case.options, case.loss))], [0.7]
    if case.towers == WITH_ANOTHER:
        triplet = registry().find("loss", "triplet").load()
        losses.append(triplet(parse_options(triplet, {"miner": "distance_weighted"}, "triplet")))
        weights.append(0.4)
    loss = WeightedSum(losses, weights)
    loss.begin(torch.arange(5), DIM)
    return Objective(model, loss).double().train()


def gradients(case: Case) -> dict[str, Tensor]:
    """By parameter, after one step, or after several where a memory has to fill; and the loss."""
    objective = build(case)
    alone = processes.count() == 1
    module = objective if alone else nn.parallel.DistributedDataParallel(
        objective, find_unused_parameters=True
    )  # fmt: skip
    rows = torch.arange(ROWS).tensor_split(processes.count())[processes.rank()]
    steps = 3 if case.loss == "memory" or case.towers == "accumulated" else 1
    total = torch.zeros((), dtype=torch.float64)
    for number in range(steps):
        torch.manual_seed(number + 1000 * processes.rank())
        if alone:  # as the first of several would
            torch.manual_seed(int(torch.randint(2**62, ())))
        last = alone or case.towers != "accumulated" or number == steps - 1
        with contextlib.nullcontext() if last else module.no_sync():
            loss = module(**step(case, objective.model, rows, number))["loss"]
            loss.backward()
        total += processes.mean(loss)
    found = {name: p.grad for name, p in objective.named_parameters() if p.grad is not None}
    return found | {"the loss": total}


if __name__ == "__main__":
    with processes.together():
        found = {str(case): gradients(case) for case in cases()}
        if processes.is_main():
            torch.save(found, Path(sys.argv[1]))
        processes.wait()
