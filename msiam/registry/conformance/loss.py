"""The tests that every loss must pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from msiam.losses.base import Given, Loss, Targets
from msiam.recipe import LossTerm
from msiam.registry.conformance.common import (
    check_options,
    require,
    require_close,
    require_finite,
    seeded,
)

ROWS, DIM = 16, 8
NAMES = ("one", "two", "three", "four", "five", "six")
Embeddings = dict[str, Tensor]


def check_loss(cls: type[Loss], options: Mapping[str, Any] | None = None) -> None:
    """Values and gradients on batches that are usual, tiny, one-sided and in half precision.

    Every number of columns that the loss declares is tried, with each of the targets that it needs,
    or with labels and without. As before a training, ``begin`` is told the groups.

    Raises:
        AssertionError: the loss breaks the contract; the message says which part of it.
        MsiamError: it cannot be made here (an option is missing, a miner is not there).
    """
    require(issubclass(cls, Loss), "must be a subclass of msiam.Loss")
    parsed = check_options(cls, options or {}, LossTerm.model_fields)
    with seeded(0):
        declared = cls(parsed)
    numbers = all(isinstance(n, int) and 0 < n <= len(NAMES) for n in declared.columns)
    require(bool(declared.columns) and numbers, f"columns must say how many: {declared.columns!r}")

    for count in declared.columns:
        names = NAMES[:count]
        for kind in declared.needs or ("", "labels"):
            declared.check(cls.__name__, Given(names, [kind] if kind else [], DIM))
            build = partial(_build, cls, parsed, names, kind)
            _check_value(build, *batch(names, kind))
            _check_alone(build, *batch(names, kind))
            _check_few_rows(build, names, kind)
            _check_state(build, names, kind)
            if build().in_batch(count):
                _check_anchors(build, *batch(names, kind))


def _build(cls: type[Loss], options: Any, names: tuple[str, ...], kind: str) -> Loss:
    """The loss as it is when training begins."""
    groups = batch(names, kind)[1].groups
    with seeded(0):
        loss = cls(options)
        loss.begin(torch.cat(list(groups.values())).unique(), DIM)
    return loss


def batch(
    names: tuple[str, ...], kind: str, rows: int = ROWS, seed: int = 0
) -> tuple[Embeddings, Targets]:
    """Random unit vectors. Rows 0 and 3 are known duplicates; a third column and those after it
    hold negatives.

    Args:
        kind: what is said of the rows: nothing, "labels" (every third is not the same), "scores"
            (of which several rows have one) or "classes" (five; rows are of one class or not).
    """
    random = torch.Generator().manual_seed(seed)
    vectors = {
        name: torch.nn.functional.normalize(torch.randn(rows, DIM, generator=random), dim=1)
        for name in names
    }
    number = torch.arange(rows)
    if kind == "classes":
        classes = [number * (place + 1) % 5 for place in range(len(names))]
        equal = classes[0] == classes[1] if len(names) > 1 else None
        return vectors, Targets(dict(zip(names, classes, strict=True)), equal)
    same = number % 3 != 1 if kind == "labels" else None
    group = number.where(number != 3, torch.zeros_like(number))
    groups = {name: group + 1000 * place for place, name in enumerate(names)}
    groups[names[0]] = group
    if len(names) > 1:
        groups[names[1]] = group if same is None else group.where(same, groups[names[1]])
    return vectors, Targets(groups, same, number % 7 / 6 if kind == "scores" else None)


def _check_value(build: Callable[[], Loss], vectors: Embeddings, targets: Targets) -> None:
    """A number, its gradients, and what must not change it."""
    value, gradients = _run(build(), vectors, targets)
    for name, gradient in gradients.items():
        require(bool(gradient.any()), f"no gradient reaches column '{name}'")
    again, _ = _run(build(), vectors, targets)
    require_close(again, value, "the same batch twice")

    order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(1))
    mixed, moved = _run(build(), {n: v[order] for n, v in vectors.items()}, _take(targets, order))
    require_close(mixed, value, "the same rows in another order")
    for name, gradient in moved.items():
        require_close(gradient, gradients[name][order], f"gradients of '{name}' in another order")

    half = {name: vector.bfloat16() for name, vector in vectors.items()}
    rough, coarse = _run(build(), half, targets)
    exact, _ = _run(build(), {n: v.float() for n, v in half.items()}, targets)
    require_close(rough.float(), exact, "the value in bf16, and in float32", tolerance=0.05)
    kinds = {gradient.dtype for gradient in coarse.values()}
    require(kinds == {torch.bfloat16}, f"gradients of bf16 embeddings are {kinds}")

    strided, _ = _run(build(), vectors, targets, strided=True)
    require_close(strided, value, "embeddings that are not contiguous in memory")


def _check_alone(build: Callable[[], Loss], vectors: Embeddings, targets: Targets) -> None:
    """A loss that gathers no rows of other processes is a plain mean over rows."""
    if build().gathers:
        return
    mean = torch.zeros(())
    for rows in torch.arange(ROWS).split(5):
        part = {name: vector[rows] for name, vector in vectors.items()}
        mean = mean + _run(build(), part, _take(targets, rows))[0] * (len(rows) / ROWS)
    right, _ = _run(build(), vectors, targets)
    require_close(mean, right, "gathers is False, and the mean over parts of a batch is another")


def _check_few_rows(build: Callable[[], Loss], names: tuple[str, ...], kind: str) -> None:
    """Batches in which there is nothing to learn cost a finite amount, with finite gradients."""
    vectors, targets = batch(names, kind)
    for row in (0, 1):  # of labelled rows, one that is the same and one that is not
        one = torch.tensor([row])
        _run(build(), {n: v[one] for n, v in vectors.items()}, _take(targets, one))
    related = {name: torch.zeros_like(group) for name, group in targets.groups.items()}
    _run(build(), vectors, replace(targets, groups=related))
    if kind == "labels":
        _run(build(), vectors, replace(targets, same=torch.zeros(ROWS, dtype=torch.bool)))
    if targets.scores is not None:
        _run(build(), vectors, replace(targets, scores=torch.zeros_like(targets.scores)))
    if kind == "classes":  # that the training part has not
        strange = {name: group + 1000 for name, group in targets.groups.items()}
        _run(build(), vectors, replace(targets, groups=strange))
    equal = dict.fromkeys(names, vectors[names[0]])
    _run(build(), equal, targets)


def _check_anchors(build: Callable[[], Loss], vectors: Embeddings, targets: Targets) -> None:
    """A loss whose rows are each other's candidates asks from its anchors alone."""
    value, gradients = _run(build(), vectors, targets)
    everybody = torch.ones(ROWS, dtype=torch.bool)
    found, slopes = _run(build(), vectors, replace(targets, anchors=everybody))
    require_close(found, value, "the value where all rows are anchors")
    for name, gradient in gradients.items():
        require_close(slopes[name], gradient, f"the gradient of '{name}' where all are anchors")
    nothing, _ = _run(build(), vectors, replace(targets, anchors=~everybody))
    require(not nothing, f"the loss is {nothing.item()} where no row is an anchor; it must be 0")


def _check_state(build: Callable[[], Loss], names: tuple[str, ...], kind: str) -> None:
    """A loss that has seen batches and learnt goes on from its ``state_dict`` as if it were it."""
    loss = build().train()
    optimizer = torch.optim.SGD([*loss.parameters(), torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    for seed in range(3):
        _run(loss, *batch(names, kind, seed=seed))
        optimizer.step()
    again = build().train()
    again.load_state_dict(loss.state_dict())
    following = batch(names, kind, seed=3)
    resumed, right = _run(again, *following)[0], _run(loss, *following)[0]
    require(torch.equal(resumed, right), "state is missing from state_dict(); make it a buffer")


def _run(
    loss: Loss, vectors: Embeddings, targets: Targets, strided: bool = False
) -> tuple[Tensor, Embeddings]:
    """The value of a loss and its gradients by column; both must be finite."""
    leaves = {name: vector.clone().requires_grad_() for name, vector in vectors.items()}
    spread = {name: torch.cat([leaf, leaf], dim=1)[:, :DIM] for name, leaf in leaves.items()}
    loss.zero_grad()
    value = loss(spread if strided else leaves, targets)
    require(isinstance(value, Tensor) and value.dim() == 0, f"the loss is no scalar: {value!r:.80}")
    require_finite(value, "the loss")
    require(value.requires_grad, "the loss has no gradient")
    value.backward()
    gradients = {}
    for name, leaf in leaves.items():
        require(torch.equal(leaf, vectors[name]), f"the loss changes the embeddings of '{name}'")
        gradients[name] = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
        require_finite(gradients[name], f"the gradient of '{name}'")
    for name, parameter in loss.named_parameters():
        if parameter.grad is not None:
            require_finite(parameter.grad, f"the gradient of {name}")
    return value.detach(), gradients


def _take(targets: Targets, rows: Tensor) -> Targets:
    same, scores = (None if t is None else t[rows] for t in (targets.same, targets.scores))
    return Targets({name: group[rows] for name, group in targets.groups.items()}, same, scores)
