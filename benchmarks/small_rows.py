"""Each loss at a small batch, B = 128, beside its plain dense form: none may be slower."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import dense
import torch
from row import Cost, Row, apart, class_vectors, compared, labels, ours, scores
from torch import Tensor

SMALL_BATCH: dict[str, Any] = {"width": 256, "batch": 128, "time": 1.0}
TRIPLET: dict[str, Any] = {"distance": "euclidean", "margin": 0.2, "average": "nonzero"}
ALL, SEMI_HARD = {"name": "all"}, {"name": "all", "negatives": "semi_hard"}


def small(
    name: str,
    theirs: Callable[[], Cost],
    mine: Callable[[], Cost],
    columns: int = 1,
    items: int = 1,
) -> Row:
    title = f"{name.replace('_', ' ')}, plain and dense"
    return compared(
        f"small_{name}", title, theirs, mine, columns=columns, items=items, **SMALL_BATCH
    )


def learnt(function: Callable[..., Tensor], scale: float, *starts: float) -> Cost:
    """A dense form for two columns, with a learnt scale and further learnt numbers."""
    log_scale, *others = (torch.tensor(x, requires_grad=True) for x in (math.log(scale), *starts))
    return lambda a, b, classes: function(a, b, classes, classes, log_scale.exp(), *others)


def fixed(function: Callable[..., Tensor], *given: Any) -> Cost:
    """A dense form with what it takes after the groups."""
    return lambda *inputs: function(*inputs, *given)


def told(function: Callable[..., Tensor], of: Callable[[int], Tensor], *given: Any) -> Cost:
    """A dense form that takes labels or scores in the place of groups."""
    return lambda *inputs: function(*inputs[:-1], of(len(inputs[-1])), *given)


def of_classes(function: Callable[..., Tensor], number: int, scale: float, margin: float) -> Cost:
    weights = class_vectors(number, 256).requires_grad_()
    return lambda x, classes: function(x, classes, weights, scale, margin)


def margin_mse(a: Tensor, p: Tensor, n: Tensor, classes: Tensor) -> Tensor:
    size = len(classes)
    return dense.margin_mse(a, p, n, classes != apart(size, 2), scores(size))


def triplet(a: Tensor, p: Tensor, n: Tensor, classes: Tensor) -> Tensor:
    return dense.triplet(a, p, n, classes != apart(len(a), 2), 0.2)


def quadruplet(a: Tensor, p: Tensor, n: Tensor, o: Tensor, classes: Tensor) -> Tensor:
    first, second = apart(len(a), 2), apart(len(a), 3)
    one = classes != first
    kept = [one, one & (classes != second) & (first != second)]
    return dense.quadruplet(a, p, n, o, kept, (0.2, 0.1))


def tuples(a: Tensor, p: Tensor, n: Tensor, classes: Tensor) -> Tensor:
    return dense.tuples(a, p, n, classes == apart(len(a), 2), 0.05)


def tuples_in_batch(a: Tensor, p: Tensor, n: Tensor, classes: Tensor) -> Tensor:
    candidates = torch.cat([classes, apart(len(a), 2)])
    return dense.tuples_in_batch(a, p, n, dense.known(classes, candidates), 0.05)


def clip(name: str, function: Callable[..., Tensor], **options: Any) -> Row:
    return small(name, lambda: learnt(function, 1 / 0.07), lambda: ours("infonce", **options), 2)


def grouped(
    name: str, one: Callable[..., Tensor], two: Callable[..., Tensor], *given: Any
) -> list[Row]:
    """Of one column, of two, and of two that are put together."""

    def pooled(a: Tensor, b: Tensor, classes: Tensor) -> Tensor:
        return one(torch.cat([a, b]), torch.cat([classes, classes]), *given)

    rows = [
        small(name, lambda: fixed(one, *given), lambda: ours(name), 1, 8),
        small(f"{name}_two", lambda: fixed(two, *given), lambda: ours(name), 2, 8),
    ]
    if name != "batch_contrastive":
        rows.append(small(f"{name}_pool", lambda: pooled, lambda: ours(name, pool=True), 2, 8))
    return rows


def mined(name: str, columns: int, theirs: Cost, **options: Any) -> Row:
    return small(
        name, lambda: theirs, lambda: ours("triplet", **options), columns, 8 if columns == 1 else 1
    )


def by_class(name: str, number: int, *given: float) -> Row:
    function = getattr(dense, name)
    return small(
        f"{name}_{number}",
        lambda: of_classes(function, number, *given),
        lambda: ours(name, known=number),
        1,
        8,
    )


SMALL = (
    clip("infonce", dense.infonce),
    clip("infonce_first", dense.infonce_first, directions="first"),
    clip("ntxent", dense.ntxent, pool=True),
    small("sigmoid", lambda: learnt(dense.sigmoid, 10.0, -10.0), lambda: ours("sigmoid"), 2),
    *grouped("supcon", dense.supcon, dense.supcon_two, 0.1),
    *grouped(
        "multi_similarity", dense.multi_similarity, dense.multi_similarity_two, 2.0, 50.0, 0.5
    ),
    *grouped("circle", dense.circle, dense.circle_two, 0.4, 80.0),
    *grouped("batch_contrastive", dense.contrastive, dense.contrastive_two, 1.0),
    mined("batch_hard", 1, fixed(dense.batch_hard, 0.2), distance="euclidean"),
    mined("triplet_all", 1, fixed(dense.triplets, 0.2, False), miner=ALL, **TRIPLET),
    mined("triplet_semi_hard", 1, fixed(dense.triplets, 0.2, True), miner=SEMI_HARD, **TRIPLET),
    mined("triplet_two", 2, fixed(dense.triplet_two, 0.2, False)),
    mined("triplet_two_semi_hard", 2, fixed(dense.triplet_two, 0.2, True), miner="semi_hard"),
    mined("triplet", 3, triplet),
    small("quadruplet", lambda: quadruplet, lambda: ours("quadruplet"), 4),
    small("tuple", lambda: tuples, lambda: ours("tuple"), 3),
    small("tuple_in_batch", lambda: tuples_in_batch, lambda: ours("tuple", in_batch=True), 3),
    *(by_class("arcface", number, 64.0, 0.5) for number in (16, 1000)),
    *(by_class("proxy_anchor", number, 32.0, 0.1) for number in (16, 1000)),
    *(
        small(name, lambda f=f, m=m: told(f, labels, m), lambda n=name: ours(n, gives="same"), 2)
        for name, f, m in (
            ("contrastive", dense.contrastive_rows, 1.0),
            ("online_contrastive", dense.online_contrastive, 0.5),
            ("cosine_embedding", dense.cosine_embedding, 0.0),
        )
    ),
    small(
        "cosent",
        lambda: told(dense.cosent, scores, 20.0),
        lambda: ours("cosent", gives="scores"),
        2,
    ),
    small("margin_mse", lambda: margin_mse, lambda: ours("margin_mse", gives="scores"), 3),
    small(
        "margin_mse_two",
        lambda: told(dense.similarity_mse, scores),
        lambda: ours("margin_mse", gives="scores"),
        2,
    ),
)
