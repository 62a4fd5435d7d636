"""Distances and cosines of rows: as autograd has them, and at the edges."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import cosine_similarity

from msiam.losses.rows import SHORTEST, row_cosines, row_distances, row_squared_distances

PLAIN = {
    row_distances: lambda a, b: (a - b).norm(dim=1),
    row_squared_distances: lambda a, b: (a - b).pow(2).sum(dim=1),
    row_cosines: lambda a, b: cosine_similarity(a, b, dim=1),
}
every = pytest.mark.parametrize("function", PLAIN, ids=lambda f: f.__name__)


def pair(rows, width, seed=0, dtype=torch.float64):
    random = torch.Generator().manual_seed(seed)
    return [
        torch.randn(rows, width, generator=random, dtype=dtype).requires_grad_() for _ in range(2)
    ]


def slopes(function, a, b):
    weights = torch.linspace(-1, 2, len(a), dtype=a.dtype)
    return torch.autograd.grad((function(a, b).to(a) * weights).sum(), (a, b))


@every
@given(rows=st.integers(0, 9), width=st.integers(1, 7), seed=st.integers(0, 99))
def test_they_are_what_autograd_makes_of_the_formula(function, rows, width, seed):
    a, b = pair(rows, width, seed)
    torch.testing.assert_close(function(a, b), PLAIN[function](a, b))
    found, expected = slopes(function, a, b), slopes(PLAIN[function], a, b)
    torch.testing.assert_close(found, expected)


@every
def test_gradcheck(function):
    assert torch.autograd.gradcheck(function, pair(4, 3))


@every
def test_bf16_is_computed_in_float32(function):
    a, b = (x.detach().bfloat16().requires_grad_() for x in pair(5, 8))
    wide = [x.detach().float().requires_grad_() for x in (a, b)]
    found = function(a, b)
    assert found.dtype == torch.float32
    assert torch.equal(found, function(*wide))
    of_ones = torch.autograd.grad(found.sum(), (a, b))
    for slope, expected in zip(
        of_ones, torch.autograd.grad(function(*wide).sum(), wide), strict=True
    ):
        assert slope.dtype == torch.bfloat16
        assert torch.equal(slope, expected.bfloat16())


@every
def test_autocast_changes_nothing(function):
    a, b = pair(5, 8, dtype=torch.float32)
    plain = function(a, b)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(function(a, b), plain)


@every
def test_strided_and_expanded_items(function):
    a, b = pair(1, 6)
    wide, long = a.expand(4, 6)[:, ::2], b.T.expand(6, 4).T[:, 1::2]
    torch.testing.assert_close(function(wide, long), PLAIN[function](wide, long))


def test_equal_items_are_at_no_distance_and_pull_nowhere():
    a = pair(4, 6)[0]
    for function in (row_distances, row_squared_distances):
        assert torch.equal(function(a, a.detach()), torch.zeros(4, dtype=torch.float64))
        assert torch.equal(
            slopes(function, a, a.detach().requires_grad_())[0], torch.zeros(4, 6).double()
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_cosine_of_equal_items_is_one(dtype):
    a = pair(50, 33, dtype=dtype)[0]
    assert torch.equal(row_cosines(a, a), torch.ones(50, dtype=dtype))


def test_an_item_of_length_zero_is_at_a_right_angle_to_all():
    a, b = torch.zeros(2, 3, requires_grad=True), torch.full((2, 3), SHORTEST, requires_grad=True)
    assert torch.equal(row_cosines(a, b), torch.zeros(2))
    assert all(slope.isfinite().all() for slope in slopes(row_cosines, a, b))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@every
def test_what_is_no_number_stays_none(function, value):
    a, b = pair(3, 4)
    with torch.no_grad():
        a[1, 2] = value
    found = function(a, b)
    assert not found[1].isfinite()
    assert found[[0, 2]].isfinite().all()
