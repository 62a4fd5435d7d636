from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from msiam.losses import tiles
from msiam.mining.batch import Hard
from msiam.registry.conformance import check_miner
from msiam.registry.options import Options


def choose(anchors, candidates, mine, theirs) -> list[int]:
    return Hard(Options()).choose(anchors, candidates, mine, theirs).tolist()


def nearest(anchors, candidates, mine, theirs) -> list[int]:
    """The nearest of another group, by brute force; −1 where there is none."""
    chosen = []
    for anchor, group in zip(anchors, mine, strict=True):
        distances = {
            j: ((anchor - candidate) ** 2).sum().item()
            for j, candidate in enumerate(candidates)
            if theirs[j] != group
        }
        chosen.append(min(distances, key=distances.__getitem__) if distances else -1)
    return chosen


@given(
    st.integers(0, 7), st.integers(0, 9), st.integers(1, 4), st.integers(1, 40), st.integers(0, 99)
)
def test_it_is_brute_force_whatever_the_size_of_a_tile(count, others, groups, tile, seed):
    random = torch.Generator().manual_seed(seed)
    anchors = torch.randn(count, 3, generator=random, dtype=torch.float64)
    candidates = torch.randn(others, 3, generator=random, dtype=torch.float64)
    mine = torch.randint(groups, (count,), generator=random)
    theirs = torch.randint(groups, (others,), generator=random)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "TILE", tile)
        found = choose(anchors, candidates, mine, theirs)
    assert found == nearest(anchors, candidates, mine, theirs)


def test_many_rows():
    random = torch.Generator().manual_seed(0)
    anchors, candidates = (torch.randn(200, 16, generator=random) for _ in range(2))
    groups = torch.arange(200) // 2
    assert choose(anchors, candidates, groups, groups) == nearest(
        anchors, candidates, groups, groups
    )


def test_its_own_group_is_never_a_negative_though_it_be_nearest():
    points = torch.tensor([[0.0], [0.1], [5.0]])
    assert choose(points, points, torch.tensor([0, 0, 1]), torch.tensor([0, 0, 1])) == [2, 2, 1]


def test_nothing_to_choose_from():
    points, groups = torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64)
    assert choose(points, points, groups, groups) == [-1, -1]
    assert choose(points, points[:0], groups, groups[:0]) == [-1, -1]
    assert choose(points[:0], points, groups[:0], groups) == []


def test_no_gradient_and_half_precision():
    points = torch.randn(4, 3, dtype=torch.bfloat16).requires_grad_()
    groups = torch.arange(4)
    chosen = Hard(Options()).choose(points, points, groups, groups)
    assert not chosen.requires_grad
    assert (chosen >= 0).all()


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_an_anchor_that_is_no_number_still_gets_a_negative(broken):
    points, groups = torch.full((3, 2), broken), torch.arange(3)
    assert -1 not in choose(points, points, groups, groups)


def test_conformance():
    check_miner(Hard)
