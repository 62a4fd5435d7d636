"""Items or their features to vectors, in batches of like length, order restored."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import nn

from msiam.towers.encoder import Encoder, Rejected
from msiam.towers.first_layers import collate
from msiam.towers.inference import EXACT, How, for_inference

Progress = Callable[[int], None]
States = Callable[[Sequence[Any], Sequence[np.ndarray]], Sequence[np.ndarray]]

#: Items prepared together and sorted by what they cost.
TOGETHER = 4096
BATCHES = 4  # that are prepared together where all cost the same: pictures are large


def run_items(
    module: nn.Module,
    encoder: Encoder,
    items: Sequence[Any],
    dim: int,
    progress: Progress | None = None,
    how: How = EXACT,
    states: States | None = None,
) -> tuple[np.ndarray, list[tuple[int, str]]]:
    """What a module makes of raw items, a run of them at a time.

    Where the module is on another device, the next are prepared while it is at work. On a CPU the
    two would be in each other's way: preparing takes all cores, and so does the module.

    Args:
        states: gives items, by their features, what the module takes in the place of these.

    Returns:
        Vectors of the items that can be read, (m, dim) float32, in their order, and for each other
        item its number and the reason.
    """
    vectors = [np.empty((0, dim), np.float32)]
    rejected: list[tuple[int, str]] = []
    start, size = 0, _together(encoder)
    prepared = _prepared if device_of(module).type == "cpu" else _prepared_ahead
    with for_inference(module, how) if len(items) > size else contextlib.nullcontext():
        for features in prepared(encoder, items, size):
            reasons = [(n, f.reason) for n, f in enumerate(features) if isinstance(f, Rejected)]
            rejected += [(start + number, reason) for number, reason in reasons]
            readable = [feature for feature in features if not isinstance(feature, Rejected)]
            if states is not None:
                bad = {number for number, _ in reasons}
                good = [n for n in range(len(features)) if n not in bad]
                readable = list(states([items[start + n] for n in good], readable))
            vectors.append(run_features(module, encoder, readable, dim, progress, how))
            start += len(features)
    return np.concatenate(vectors), rejected


def _together(encoder: Encoder) -> int:
    alike = type(encoder).cost is Encoder.cost
    return min(TOGETHER, BATCHES * encoder.budget) if alike else TOGETHER


def _prepared(
    encoder: Encoder, items: Sequence[Any], size: int
) -> Iterator[list[np.ndarray | Rejected]]:
    """Features of ``size`` items at a time."""
    for start in range(0, len(items), size):
        yield encoder.prepare(items[start : start + size])


def _prepared_ahead(
    encoder: Encoder, items: Sequence[Any], size: int
) -> Iterator[list[np.ndarray | Rejected]]:
    """The same; while some are used, those after them are in the making."""
    with ThreadPoolExecutor(1) as worker:
        ready: Future[list[np.ndarray | Rejected]] | None = None
        for start in range(0, len(items), size):
            coming = worker.submit(encoder.prepare, items[start : start + size])
            if ready is not None:
                yield ready.result()
            ready = coming
        if ready is not None:
            yield ready.result()


def device_of(module: nn.Module) -> torch.device:
    return next((p.device for p in module.parameters()), torch.device("cpu"))


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
    device = device_of(module)
    vectors = np.empty((len(features), dim), dtype=np.float32)
    costs = np.array([encoder.cost(feature) for feature in features], dtype=np.int64)
    if costs.sum() <= encoder.budget:  # one batch: laying weights out takes longer than it gains
        how = dataclasses.replace(how, optimize=False)
    with for_inference(module, how):
        for rows in batches(costs, encoder.budget, how.batch_size):
            batch = collate(encoder, [features[row] for row in rows])
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
