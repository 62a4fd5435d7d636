from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from msiam.losses import tiles
from msiam.mining.blocks import Pool

GROUPS = torch.tensor([0, 1, 0, 2, 0])
SAME = torch.tensor([True, True, False, False, True])


def vectors(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def only(pool):
    (block,) = pool.blocks(size=1)
    return block


def listed(numbers, there):
    return [sorted(row[kept].tolist()) for row, kept in zip(numbers, there, strict=True)]


@given(st.integers(0, 9), st.integers(0, 9), st.integers(1, 50), st.integers(1, 3))
def test_blocks_are_the_matrix_whatever_their_size(count, others, tile, size):
    a, b = vectors(count, 3, dtype=torch.float64), vectors(others, 3, seed=1, dtype=torch.float64)
    pool = Pool(a, b, torch.arange(count) % 3, torch.arange(others) % 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "TILE", tile)
        blocks = list(pool.blocks(size))
    right = (a[:, None] - b).pow(2).sum(dim=2)
    found = torch.cat([block.squared for block in blocks] or [right[:0]])
    torch.testing.assert_close(found, right[: count if others else 0])
    known = torch.cat([block.known for block in blocks] or [right[:0].bool()])
    assert torch.equal(known, (pool.anchor_groups[:, None] == pool.candidate_groups)[: len(known)])


@pytest.mark.parametrize("sharp", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_far_from_the_origin_no_digits_are_lost(dtype, sharp):
    points = (100 + vectors(7, 16)).to(dtype)
    groups = torch.arange(7)
    right = (points.double()[:, None] - points.double()).pow(2).sum(dim=2)
    found = only(Pool(points, points, groups, groups, sharp=sharp)).squared
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), right, rtol=1e-5, atol=1e-4)


def test_where_they_are_sharp_small_distances_are_as_exact_as_others():
    points = vectors(6, 16, dtype=torch.float64)
    points[3:] = points[:3] + 1e-5 * points[3:]
    groups = torch.arange(6)
    right = (points[:, None] - points).norm(dim=2)
    rough = points.float()
    found = only(Pool(rough, rough, groups, groups, sharp=True)).squared.sqrt()
    torch.testing.assert_close(found.double(), right, rtol=1e-2, atol=0)
    assert not found.diagonal().any()


def test_it_is_exact_in_autocast():
    points, groups = vectors(5, 16), torch.arange(5)
    right = only(Pool(points, points, groups, groups)).squared
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(only(Pool(points, points, groups, groups)).squared, right)


def test_the_positives_of_one_column():
    points = torch.tensor([[0.0], [5.0], [1.0], [9.0], [3.0]])
    block = only(Pool(points, points, GROUPS, GROUPS))
    assert listed(*block.positives("all")) == [[2, 4], [], [0, 4], [], [0, 2]]
    assert listed(*block.positives("hardest")) == [[4], [], [4], [], [0]]
    with pytest.raises(AssertionError, match="rows are no pairs"):
        block.positives("row")


@pytest.mark.parametrize("tile", [5, 1 << 22])
def test_the_positives_of_two_columns(monkeypatch, tile):
    monkeypatch.setattr(tiles, "TILE", tile)
    a, b = torch.zeros(5, 1), torch.tensor([[0.0], [5.0], [1.0], [9.0], [3.0]])
    blocks = list(Pool(a, b, GROUPS, GROUPS, SAME).blocks(size=1))
    found = {
        which: [row for block in blocks for row in listed(*block.positives(which))]
        for which in ("row", "hardest", "all")
    }
    # The partners of rows 2 and 3 are labelled not the same, though they be of their groups.
    assert found["row"] == [[0], [1], [], [], [4]]
    assert found["all"] == [[0, 2, 4], [1], [0, 4], [], [0, 2, 4]]
    assert found["hardest"] == [[4], [1], [4], [], [4]]


def test_a_partner_that_is_the_same_is_known_whatever_its_group():
    points, mine = torch.zeros(2, 1), torch.tensor([0, 1])
    block = only(Pool(points, points, mine, mine + 5, torch.tensor([True, False])))
    assert block.known.tolist() == [[True, False], [False, False]]
    assert block.far.tolist() == [[torch.inf, 0], [0, 0]]
