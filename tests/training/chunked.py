"""Towers, their items in chunks, and gradients to compare: for two passes over chunks."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import msiam
from msiam.towers.encoder import Batch

WORDS = ["red", "green", "blue", "cat", "dog", "house", "boat", "tree", "where", "is", "the", "a"]
LSTM = {"encoder": "lstm", "dim": 8, "hidden": 8, "embedding": 8, "min_count": 1}
TRANSFORMER = {
    "encoder": "transformer", "dim": 8, "vocabulary": 280, "config": {
        "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16
    },
}  # fmt: skip
CNN = {"encoder": "small_cnn", "dim": 8, "size": 32, "width": 4, "head": "mlp"}
VARIED = {"rotate": 20, "flip": True, "colour": 0.3, "erase": 0.5}
TOWERS = {
    "lstm": LSTM | {"dropout": 0.4, "word_dropout": 0.2, "layers": 2, "head": "mlp"},
    "lstm, attention": LSTM | {"dropout": 0.0, "pooling": "attention"},
    "transformer": TRANSFORMER | {"dropout": 0.3},
    "transformer, dropout in attention": TRANSFORMER | {"attention_dropout": 0.3},
    "small_cnn": CNN | {"augment": VARIED},
    "frozen": LSTM | {"freeze": True, "head": "mlp"},
}


def texts(n: int) -> list[str]:
    draw = random.Random(0)
    return [" ".join(draw.choices(WORDS, k=draw.randint(1, 9))) for _ in range(n)]


def pictures(n: int) -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (n, 32, 32, 3), dtype=np.uint8))


def items_for(tower: msiam.Tower, n: int) -> list[Any]:
    return pictures(n) if tower.encoder.modality == "image" else texts(n)


def build(options: dict[str, Any]) -> msiam.Tower:
    torch.manual_seed(0)
    tower = msiam.Tower(options["encoder"], **{k: v for k, v in options.items() if k != "encoder"})
    tower.fit(items_for(tower, 20))
    return tower.train()


def chunked(tower: msiam.Tower, n: int, size: int) -> list[Batch]:
    features = tower.encoder.prepare(items_for(tower, n))
    return [tower.encoder.collate(features[at : at + size]) for at in range(0, n, size)]


def one_pass(tower: nn.Module, chunks: Sequence[Batch]) -> Tensor:
    """The same chunks, each with its gradient at once."""
    return torch.cat([tower(chunk) for chunk in chunks])


def grads(
    module: nn.Module, cost: Callable[[], Tensor], seed: int = 1
) -> tuple[Tensor, dict[str, Tensor | None]]:
    """A cost and the gradient of each parameter, of a module that stays as it was."""
    module.zero_grad()
    torch.manual_seed(seed)
    value = cost()
    value.backward()
    return value.detach(), {name: p.grad for name, p in module.named_parameters()}


def assert_equal(found: dict[str, Tensor | None], wanted: dict[str, Tensor | None]) -> None:
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        if gradient is None:
            assert found[name] is None, name
        else:
            torch.testing.assert_close(found[name], gradient, atol=1e-5, rtol=1e-5, msg=name)
    assert any(g is not None and g.abs().max() > 1e-3 for g in wanted.values())
