from __future__ import annotations

import math

import pytest
import torch

from msiam.errors import RecipeError
from msiam.losses.base import Given
from msiam.losses.cosent import CoSENT

SAME = [True, False, False, True, False]


@pytest.fixture
def loss(make, targets):
    """The loss as a function of two matrices."""

    def loss(same, **options):
        module = make(CoSENT, **options)
        return lambda a, b: module({"a": a, "b": b}, targets(len(a), same=same))

    return loss


def reference(same, scale=20.0):
    """log(1 + Σ over every pair of pairs), one at a time."""

    def cost(a, b):
        similarity = [(left * right).sum() for left, right in zip(a, b, strict=True)]
        total = torch.ones((), dtype=a.dtype)
        for n, together in enumerate(same):
            for p, apart in enumerate(same):
                if apart and not together:
                    total = total + (scale * (similarity[n] - similarity[p])).exp()
        return total.log()

    return cost


def test_by_hand(loss):
    a = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    b = torch.tensor([[0.6, 0.8], [0.8, 0.6]])
    # The pair that differs is 0.2 more similar than the one that is the same.
    assert loss([True, False])(a, b).item() == pytest.approx(math.log(1 + math.exp(20 * 0.2)))


@pytest.mark.parametrize("options", [{}, {"scale": 1.0}, {"scale": 50.0}])
def test_it_is_the_reference_in_value_and_gradient(loss, agree, unit, options):
    agree(loss(SAME, **options), reference(SAME, **options), unit(5), unit(5, seed=1))


@pytest.mark.parametrize("same", [[True, True], [False, False]])
def test_with_one_kind_of_pair_alone_it_costs_nothing(loss, unit, same):
    a, b = unit(2).requires_grad_(), unit(2, seed=1)
    cost = loss(same)(a, b)
    cost.backward()
    assert cost == 0 and torch.equal(a.grad, torch.zeros_like(a))


def test_it_learns_from_labels():
    with pytest.raises(RecipeError, match="learns from labelled pairs"):
        CoSENT.check("cosent", Given(["a", "b"], {}, dim=8))
