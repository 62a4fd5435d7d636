from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from msiam import Tower
from msiam.errors import RecipeError
from msiam.towers.perturbing import Ball, continuous_input

LOW, HIGH = 0.0, 255.0


def batch(shape, seed, scale=1.0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape) * scale).float()


def size_of(norm, change):
    flat = change.flatten(1)
    return flat.abs().amax(1) if norm == "linf" else flat.norm(dim=1)


shapes = arrays.array_shapes(min_dims=2, max_dims=4, min_side=1, max_side=5)
norms = st.sampled_from(["linf", "l2"])
sizes = st.sampled_from([0.0, 0.01, 4.0, 300.0])


@given(shape=shapes, norm=norms, epsilon=sizes, seed=st.integers(0, 99))
def test_nothing_leaves_the_ball_or_the_range(shape, norm, epsilon, seed):
    centre = (batch(shape, seed, 100) + 128).clamp(LOW, HIGH)
    ball = Ball(norm, epsilon, centre, LOW, HIGH)
    generator = torch.Generator().manual_seed(seed)
    for points in (
        ball.project(centre + batch(shape, seed + 1, 50)),
        ball.draw(generator),
        ball.ascend(centre, batch(shape, seed + 2), 9.0),
    ):
        assert (size_of(norm, points - centre) <= epsilon + 1e-4).all()
        assert points.min() >= LOW and points.max() <= HIGH
        if epsilon == 0:
            assert torch.equal(points, centre)


def test_what_is_in_the_ball_stays_and_what_is_not_comes_to_its_edge():
    centre = torch.full((2, 3), 100.0)
    change = torch.tensor([[1.0, -2.0, 2.0], [30.0, 0.0, -40.0]])
    for norm, second in (("linf", [5.0, 0.0, -5.0]), ("l2", [3.0, 0.0, -4.0])):
        points = Ball(norm, 5.0, centre, LOW, HIGH).project(centre + change)
        torch.testing.assert_close(points - centre, torch.tensor([[1.0, -2.0, 2.0], second]))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_step_raises_a_linear_function_by_as_much_as_there_is(norm):
    """By ε times the dual norm of its slope; however small the slope is."""
    slope = torch.tensor([[3.0, 0.0, -4.0], [1e-25, 2e-25, 0.0]])
    centre = torch.full((2, 3), 100.0)
    points = Ball(norm, 2.0, centre, LOW, HIGH).ascend(centre, slope, 2.0)
    rise = ((points - centre).double() * slope.double()).sum(1)
    dual = slope.double().norm(p=1 if norm == "linf" else 2, dim=1)
    torch.testing.assert_close(rise / dual, torch.full((2,), 2.0).double(), rtol=1e-5, atol=0)


def test_random_points_are_everywhere_in_the_ball():
    ball = Ball("l2", 3.0, torch.full((4000, 2), 128.0), LOW, HIGH)
    change = ball.draw(torch.Generator().manual_seed(0)) - ball.centre
    # Uniform in a disk: a quarter of them within half of the radius, as many on either side.
    assert abs((change.norm(dim=1) < 1.5).float().mean() - 0.25) < 0.03
    assert abs((change[:, 0] > 0).float().mean() - 0.5) < 0.03


def test_what_has_no_continuous_input_is_said(tiny):
    with pytest.raises(RecipeError, match=r"^here: encoder letters has no input that can be"):
        continuous_input(Tower("letters", dim=4), "here")
    frozen = Tower("small_cnn", dim=4, freeze=True)
    with pytest.raises(RecipeError, match=r"encoder small_cnn, which is frozen, has no input"):
        continuous_input(frozen, "here")
    assert continuous_input(Tower("small_cnn", dim=4), "here").tensor == "pixels"
