from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from memory import growth

from msiam.losses import tiles
from msiam.losses.tiles import (
    distinct,
    exp_,
    log,
    log_sums_along,
    row_blocks,
    row_sums,
    square_tiles,
    sums_along,
    widened,
)


@given(st.integers(0, 50), st.integers(0, 50), st.integers(1, 300))
def test_blocks_are_all_rows_once_and_in_order(rows, columns, tile):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "TILE", tile)
        blocks = list(row_blocks(rows, columns))
    assert [row for block in blocks for row in range(rows)[block]] == list(range(rows))
    assert all((b.stop - b.start) * columns <= max(tile, columns) for b in blocks)


@given(st.integers(0, 50), st.integers(0, 50), st.integers(1, 300))
def test_square_tiles_are_all_entries_once(rows, columns, tile):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "TILE", tile)
        found = square_tiles(rows, columns)
    seen = torch.zeros(rows, columns)
    for i, j in found:
        seen[i, j] += 1
        assert seen[i, j].numel() <= max(1, tile // 4)
    assert seen.eq(1).all()


@given(st.lists(st.integers(0, 5), max_size=6), st.lists(st.integers(0, 5), max_size=6))
def test_distinct_groups_are_those_of_which_no_pair_off_the_diagonal_is_known(ga, more):
    gb = torch.tensor(ga + more, dtype=torch.long)
    ga = torch.tensor(ga, dtype=torch.long)
    paired = torch.equal(ga, gb[: len(ga)])
    assert distinct(ga, gb) == (paired and len(gb.unique()) == len(gb))
    if distinct(ga, gb):
        known = ga[:, None] == gb
        assert torch.equal(known, torch.eye(len(ga), len(gb), dtype=torch.bool))


@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sums_along_a_dimension_are_those_of_torch(dim, dtype):
    random = torch.Generator().manual_seed(0)
    matrix = 1e4 * torch.randn(7, 5, generator=random, dtype=dtype)
    matrix[2], matrix[:, 3] = -torch.inf, -torch.inf
    torch.testing.assert_close(log_sums_along(matrix, dim), matrix.logsumexp(dim))
    torch.testing.assert_close(sums_along(matrix[:2, :3], dim), matrix[:2, :3].sum(dim))
    matrix[0, 0] = torch.nan
    assert log_sums_along(matrix, dim)[0].isnan()
    for empty in (matrix[:0], matrix[:, :0]):
        assert torch.equal(log_sums_along(empty, dim), empty.logsumexp(dim))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_functions_that_wake_no_threads_are_those_of_torch(dtype):
    values = torch.linspace(-60, 60, 999, dtype=dtype)
    torch.testing.assert_close(exp_(values.clone()), values.exp(), rtol=1e-5, atol=0)
    torch.testing.assert_close(log(values.exp()), values)
    edges = torch.tensor([0.0, torch.inf, torch.nan], dtype=dtype)
    torch.testing.assert_close(log(edges), edges.log(), equal_nan=True)
    torch.testing.assert_close(exp_(-edges), (-edges).exp(), equal_nan=True)
    torch.testing.assert_close(row_sums(values.view(27, 37)), values.view(27, 37).sum(dim=1))


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        (torch.bfloat16, torch.bfloat16, torch.float32),
        (torch.float16, torch.bfloat16, torch.float32),
        (torch.float32, torch.float64, torch.float64),
    ],
)
def test_two_towers_of_different_precision_meet_in_the_wider(one, other, both):
    found = widened(torch.zeros(2, 3, dtype=one), torch.zeros(2, 3, dtype=other))
    assert [part.dtype for part in found] == [both, both]
    assert [part.dtype for part in widened(found[0].bfloat16())] == [torch.float32]


STEP = """
from msiam.losses import tiles
from msiam.losses.base import Targets
from msiam.registry import registry
from msiam.registry.options import parse_options

def step(name, options, tile, rows):
    tiles.TILE = tile
    cls = registry().find("loss", name).load()
    loss = cls(parse_options(cls, options, "loss"))
    vectors = torch.nn.functional.normalize(torch.randn(2, rows, 16), dim=2)
    a, b = (v.clone().requires_grad_() for v in vectors)
    groups = torch.arange(rows) // 2
    loss({"a": a, "b": b}, Targets({"a": groups, "b": groups})).backward()
"""


def taken(name, options, tile, rows) -> int:
    """The bytes that a batch takes more than one of 64 rows."""
    given = f"{name!r}, {options}, {tile}"
    return growth(STEP, f"step({given}, 64)", f"step({given}, {rows})")


@pytest.mark.parametrize("name", ["infonce", "triplet"])
def test_a_batch_of_16384_takes_no_memory_that_grows_with_its_square(name):
    matrix = 4 * 16384**2  # one whole matrix of float32: 1 GiB
    assert taken(name, {}, tiles.TILE, 16384) < matrix / 4


@pytest.mark.parametrize("rows", [4096, 8192])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("sigmoid", {}),
        ("supcon", {}),
        ("supcon", {"pool": True}),
        ("multi_similarity", {}),
        ("circle", {}),
    ],
)
def test_memory_grows_as_the_batch_does(name, options, rows):
    """With small tiles, what is left is what grows: 2 KiB a row. A matrix has 32 KiB at 8,192."""
    assert taken(name, options, 1 << 17, rows) < 8 * 2**20 + 2048 * rows
