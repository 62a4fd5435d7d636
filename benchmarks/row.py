"""A row of benchmarks/losses.py: a loss of ours and one of theirs, on the same tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

#: A loss of the embeddings (of one column or more, (B, D) each) and their classes, (B,).
Cost = Callable[..., Tensor]


@dataclass(frozen=True)
class Row:
    """A loss of ours and one of theirs, on the same tensors.

    Attributes:
        name: what the command line calls it.
        title: the table's first column.
        columns, batch, width: how many matrices of what shape.
        items: of each class.
        build: "ours" or "theirs" to the loss; imports a peer only when it is asked for.
        time, memory: what ours over theirs may be at most.
        gigabytes: what ours may take.
        peer: the package of theirs; None where it is written out in dense.py.
        alone: there is no peer that could do it.
    """

    name: str
    title: str
    build: Callable[[str], Cost]
    columns: int
    batch: int
    width: int
    items: int = 1
    time: float | None = None
    memory: float | None = None
    gigabytes: float | None = None
    peer: str | None = None
    alone: bool = False

    def step(self, side: str, batch: int) -> Callable[[], Sequence[Tensor]]:
        """Inputs for one side; what is returned goes forward and backward, and gives gradients."""
        torch.manual_seed(0)
        leaves = [torch.randn(batch, self.width) for _ in range(self.columns)]
        for other in leaves[1:]:  # partners are nearer than others, as after some training
            other.add_(leaves[0], alpha=0.3)
        for leaf in leaves:
            leaf.div_(leaf.norm(dim=1, keepdim=True)).requires_grad_()
        classes = torch.arange(batch) // self.items
        cost = self.build(side)

        def step() -> Sequence[Tensor]:
            for leaf in leaves:
                leaf.grad = None
            cost(*leaves, classes).backward()
            return [leaf.grad for leaf in leaves if leaf.grad is not None]

        return step


@cache
def labels(size: int) -> Tensor:
    """(B,) booleans: every second row is the same."""
    return torch.arange(size) % 2 == 0


@cache
def scores(size: int) -> Tensor:
    """(B,) numbers, none of them twice."""
    return torch.linspace(0, 1, size)


@cache
def apart(size: int, place: int) -> Tensor:
    """(B,) groups of the negatives of a column, from the third on: each is of its own."""
    return torch.arange(size) + size * place


def class_vectors(number: int, width: int) -> Tensor:
    """(C, D) of length 1, as the losses that learn them begin."""
    torch.manual_seed(1)
    return torch.nn.functional.normalize(torch.randn(number, width), dim=1)


def ours(name: str, *, gives: str = "", known: int = 0, width: int = 256, **options: Any) -> Cost:
    """A loss as a recipe names it.

    Args:
        gives: "same" or "scores", if it is told so.
        known: how many classes the training part has.
        options: the loss's own.
    """
    from msiam.losses.base import Targets
    from msiam.registry import registry
    from msiam.registry.options import parse_options

    cls = registry().find("loss", name).load()
    loss = cls(parse_options(cls, options, name))
    if known:
        torch.manual_seed(1)
        loss.begin(torch.arange(known), width)

    made: dict[int, Targets] = {}  # by the batch's size: as in training, the loss finds them made

    def targets(classes: Tensor, names: str) -> Targets:
        size = len(classes)
        if size not in made:
            of = [classes if k < 2 else apart(size, k) for k in range(len(names))]
            made[size] = Targets(
                dict(zip(names, of, strict=True)),
                same=labels(size) if gives == "same" else None,
                scores=scores(size) if gives == "scores" else None,
            )
        return made[size]

    def cost(*given: Tensor) -> Tensor:
        *columns, classes = given
        names = "abcd"[: len(columns)]
        return loss(dict(zip(names, columns, strict=True)), targets(classes, names))

    return cost


def compared(
    name: str, title: str, theirs: Callable[[], Cost], mine: Callable[[], Cost], **rest: Any
) -> Row:
    return Row(name, title, lambda side: mine() if side == "ours" else theirs(), **rest)
