import contextlib
import time
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from msiam.registry.options import Options
from msiam.towers import encoding, inference
from msiam.towers.encoder import Batch, Encoder, Rejected
from msiam.towers.encoding import batches, run_items


@given(
    costs=st.lists(st.integers(0, 50), max_size=60),
    budget=st.integers(1, 100),
    most=st.none() | st.integers(1, 10),
)
def test_each_feature_is_in_one_batch_that_its_budget_has_room_for(costs, budget, most):
    given_costs = np.array(costs, dtype=np.int64)
    found = list(batches(given_costs, budget, most))
    assert sorted(np.concatenate([[], *found]).tolist()) == list(range(len(costs)))
    for rows in found:
        assert len(rows) <= (most or len(costs))
        assert len(rows) == 1 or len(rows) * given_costs[rows].max() <= budget
    longest = [given_costs[rows].max() for rows in found]
    assert longest == sorted(longest, reverse=True)


class Doubling(Encoder):
    """Numbers to vectors of twice the number; what is below 0 cannot be read."""

    modality, dim, budget = "number", 2, 3

    def __init__(self) -> None:
        super().__init__(Options())
        self.scale = nn.Parameter(torch.full((2,), 2.0))
        self.alive = self.most = 0
        self.runs: list[int] = []

    @classmethod
    def accepts(cls, item: object) -> bool:
        return isinstance(item, int)

    def prepare(self, items: Sequence[Any]) -> list[np.ndarray | Rejected]:
        self.runs.append(len(items))
        return [Rejected(f"{n} is below 0") if n < 0 else self._feature(n) for n in items]

    def _feature(self, number: int) -> np.ndarray:
        def gone() -> None:
            self.alive -= 1

        feature = np.full(2, number, np.float32)
        weakref.finalize(feature, gone)
        self.alive += 1
        self.most = max(self.most, self.alive)
        return feature

    def collate(self, features: Sequence[np.ndarray]) -> Batch:
        return {"numbers": torch.from_numpy(np.stack(features))}

    def forward(self, batch: Batch) -> torch.Tensor:
        return batch["numbers"] * self.scale


@pytest.mark.parametrize("ahead", [False, True])
@given(numbers=st.lists(st.integers(-2, 20), max_size=80))
def test_items_are_run_in_order_and_few_are_in_memory(ahead, numbers):
    encoder = Doubling()
    prepared = encoding._prepared_ahead if ahead else encoding._prepared
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "_prepared", prepared)
        done: list[int] = []
        vectors, rejected = run_items(encoder, encoder, numbers, 2, done.append)
    good = [number for number in numbers if number >= 0]
    np.testing.assert_array_equal(vectors, 2 * np.repeat(good, 2).reshape(-1, 2))
    assert vectors.dtype == np.float32 and sum(done) == len(good)
    assert rejected == [(n, f"{i} is below 0") for n, i in enumerate(numbers) if i < 0]
    size = encoding.BATCHES * encoder.budget
    assert sum(encoder.runs) == len(numbers) and max(encoder.runs, default=0) <= size
    assert encoder.most <= (3 if ahead else 2) * size and not encoder.alive


def test_the_next_items_are_prepared_while_the_first_are_used():
    encoder = Doubling()
    runs = encoding._prepared_ahead(encoder, list(range(9)), 3)
    first = next(runs)
    deadline = time.monotonic() + 20
    while len(encoder.runs) < 2 and time.monotonic() < deadline:
        time.sleep(0.001)
    assert encoder.runs == [3, 3] and [f[0] for f in first] == [0, 1, 2]
    runs.close()
    assert encoder.runs == [3, 3]


def test_beside_another_device_items_are_prepared_ahead(monkeypatch):
    monkeypatch.setattr(encoding, "_prepared", None)  # it is not called
    elsewhere = nn.Linear(1, 1, device="meta")
    _, rejected = run_items(elsewhere, Doubling(), [-1] * 20, 2)
    assert len(rejected) == 20


def test_what_preparing_raises_is_raised():
    encoder = Doubling()
    runs = encoding._prepared_ahead(encoder, [1, 2, "three"], 2)
    assert len(next(runs)) == 2
    with pytest.raises(TypeError):
        next(runs)


def test_a_long_list_is_laid_out_once_and_a_short_one_never(monkeypatch):
    laid_out: list[int] = []  # how deep inside of another each was
    depth = 0

    @contextlib.contextmanager
    def prepacked(module, dtype):
        nonlocal depth
        laid_out.append(depth)
        depth += 1
        yield
        depth -= 1

    encoder = Doubling()
    monkeypatch.setattr(inference, "prepacked", prepacked)
    run_items(encoder, encoder, [1] * encoder.budget, 2)
    assert laid_out == []
    run_items(encoder, encoder, [1] * 100, 2)
    assert laid_out[0] == 0 and all(laid_out[1:])


def test_items_that_differ_in_cost_are_sorted_over_many(monkeypatch):
    class Costly(Doubling):
        def cost(self, feature: np.ndarray) -> int:
            return int(feature[0])

    encoder = Costly()
    run_items(encoder, encoder, list(range(1, 101)), 2)
    assert encoder.runs == [100]
