"""Batch-all's values and gradients are in tests/losses/test_triplet_mined.py."""

from __future__ import annotations

import pytest
import torch
from memory import growth

from msiam.errors import RecipeError
from msiam.mining.every import All
from msiam.registry.options import parse_options


def total(points, groups, margin, **options):
    miner = All(parse_options(All, options, "miner"))
    return miner.total((points, points, groups, groups, None), "all", "squared", margin)


def test_by_hand():
    """On a line: 0 and 2 belong together, and so do 1 and 9; the rest is far away."""
    points = torch.tensor([[0.0], [2.0], [1.0], [9.0]])
    groups = torch.tensor([0, 0, 1, 1])
    # Anchor 0: 4 − 1 + 1, 4 − 81 + 1; anchor 2: 4 − 1 + 1, 4 − 49 + 1;
    # anchor 1: 64 − 1 + 1 twice; anchor 9: 64 − 81 + 1, 64 − 49 + 1.
    cost, count, costly = total(points, groups, margin=1.0)
    assert (cost, count, costly) == (4 + 4 + 64 + 64 + 16, 8, 5)
    cost, count, costly = total(points, groups, margin=18.0, negatives="semi_hard")
    assert (cost, count, costly) == (64 - 81 + 18, 1, 1)
    cost, count, costly = total(points, groups, margin=18.0, negatives="hard")
    assert (cost, count, costly) == (3 + 3 + 63 + 63 + 15 + 5 * 18, 5, 5)


def test_a_triplet_at_the_margin_costs_nothing():
    points = torch.tensor([[0.0], [1.0], [2.0]])
    cost, count, costly = total(points[:, :1], torch.tensor([0, 0, 1]), margin=3.0)
    # Anchor 0: 1 − 4 + 3 = 0; anchor 1: 1 − 1 + 3.
    assert (cost, count, costly) == (3, 2, 1)


def test_numbers_are_counted_that_no_float_could():
    """4,096 items at two places: 2 · 2048 · 2047 · 2048 triplets, each of cost 1 + 1e-3."""
    groups = torch.arange(4096) % 2
    cost, count, costly = total(groups[:, None].float() * 0, groups, margin=1 + 1e-3)
    assert count == costly == 2 * 2048 * 2047 * 2048
    assert cost.item() == pytest.approx(count.item() * (1 + 1e-3), rel=1e-6)


def test_an_option_that_is_not_there():
    with pytest.raises(RecipeError, match="miner: negatives: found 'easy'; Input should be 'all'"):
        parse_options(All, {"negatives": "easy"}, "miner")


STEP = """
from msiam.losses.base import Targets
from msiam.losses.triplet import Triplet
from msiam.registry.options import parse_options

def step(rows):
    loss = Triplet(parse_options(Triplet, {"miner": "all"}, "loss"))
    vectors = torch.nn.functional.normalize(torch.randn(rows, 16), dim=1).requires_grad_()
    loss({"a": vectors}, Targets({"a": torch.arange(rows) % 2})).backward()
"""


def test_a_batch_of_6144_in_two_classes_takes_no_memory_that_grows_with_its_square():
    """58 billion triplets; of one matrix of float32, it takes less than a half."""
    assert growth(STEP, "step(64)", "step(6144)") < 4 * 6144**2 / 2
