from __future__ import annotations

import pytest
import torch

from msiam.evaluation.attacks import Worst, fgsm, pgd
from msiam.towers.perturbing import Ball


def setting(norm, epsilon, items=16, seed=0):
    """A gain that bends, so that one step from the centre is not the best."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(8, 8, generator=generator)
    centre = torch.rand(items, 8, generator=generator)

    def gain(points):
        return torch.sin(6 * points @ weights).sum(1)

    return gain, Ball(norm, epsilon, centre, 0.0, 1.0), Worst(centre, gain(centre))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_with_nothing_allowed_nothing_changes(norm):
    gain, ball, clean = setting(norm, 0.0)
    for found in (fgsm(gain, ball, clean), pgd(gain, ball, clean, 5, torch.Generator())):
        assert torch.equal(found.points, ball.centre) and torch.equal(found.gain, clean.gain)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_what_is_found_is_worse_within_the_ball_and_has_the_gain_it_says(norm):
    gain, ball, clean = setting(norm, 0.2)
    for found in (fgsm(gain, ball, clean), pgd(gain, ball, clean, 20, torch.Generator())):
        assert (found.gain >= clean.gain).all() and (found.gain > clean.gain).any()
        torch.testing.assert_close(gain(found.points), found.gain)
        torch.testing.assert_close(ball.project(found.points), found.points)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_many_steps_find_worse_points_than_one(norm):
    """Of twenty the mean; and of one, which is weaker, none once it begins with FGSM's."""
    gain, ball, clean = setting(norm, 0.3)
    once = fgsm(gain, ball, clean)
    assert pgd(gain, ball, clean, 20, torch.Generator()).gain.mean() > once.gain.mean()
    assert (pgd(gain, ball, clean, 1, torch.Generator()).gain < once.gain).any()
    assert (pgd(gain, ball, once, 1, torch.Generator()).gain >= once.gain).all()


def test_one_step_of_a_linear_gain_is_the_best_there_is():
    slope = torch.tensor([[1.0, -2.0, 0.5]])
    ball = Ball("linf", 4.0, torch.full((1, 3), 100.0), 0.0, 255.0)

    def gain(points):
        return (points * slope).sum(1)

    found = fgsm(gain, ball, Worst(ball.centre, gain(ball.centre)))
    assert found.points.tolist() == [[104.0, 96.0, 104.0]]
    assert pgd(gain, ball, found, 20, torch.Generator()).gain == found.gain


def test_the_range_holds_as_well():
    ball = Ball("linf", 4.0, torch.tensor([[1.0, 254.0]]), 0.0, 255.0)

    def gain(points):
        return points[:, 1] - points[:, 0]

    found = fgsm(gain, ball, Worst(ball.centre, gain(ball.centre)))
    assert found.points.tolist() == [[0.0, 255.0]]
