"""The score map against loops, and the logistic loss against its formula."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from msiam_tracking.loss import ScoreMap, as_maps, correlate, middle, offsets

from msiam import Targets, errors

GROUPS = {"a": torch.arange(2), "b": torch.arange(2)}


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(0, 3))
def test_correlation_is_the_plain_loop(count, channels, side, more):
    torch.manual_seed(0)
    kernels = torch.randn(count, channels, side, side)
    maps = torch.randn(count, channels, side + more, side + more)
    found = correlate(kernels, maps)
    assert found.shape == (count, more + 1, more + 1)
    for n in range(count):
        for y in range(more + 1):
            for x in range(more + 1):
                total = 0.0
                for c in range(channels):
                    for i in range(side):
                        for j in range(side):
                            total += float(kernels[n, c, i, j] * maps[n, c, y + i, x + j])
                assert float(found[n, y, x]) == pytest.approx(
                    total / (channels * side**2), abs=1e-5
                )


def test_offsets_are_pixels_from_the_middle():
    found = offsets()
    assert found.shape == (17, 17) and found[8, 8] == 0
    assert found[8, 9] == 8 and found[0, 8] == 64
    assert found[5, 4] == pytest.approx(8 * 5)  # 3 and 4


def reference(one, other, loss, same):
    """The formula, place by place."""
    total = 0.0
    for a, b in ((one, other), (other, one)):
        scores = correlate(middle(as_maps(a)), as_maps(b)) * loss.scale + loss.bias
        for n, positive in enumerate(same):
            near, far = [], []
            for y in range(17):
                for x in range(17):
                    within = positive and 8 * math.hypot(y - 8, x - 8) <= 16
                    v = float(scores[n, y, x].detach())
                    cost = math.log1p(math.exp(-v if within else v))
                    (near if within else far).append(cost)
            parts = [sum(part) / len(part) for part in (near, far) if part]
            total += sum(parts) / len(parts) / len(same)
    return total / 2


@pytest.mark.parametrize("same", [(True, True), (True, False)])
def test_the_loss_is_the_formula(same):
    torch.manual_seed(0)
    loss = ScoreMap(ScoreMap.Options())
    one, other = torch.randn(2, 2, 2 * 484)
    labels = None if all(same) else torch.tensor(same)
    found = loss({"a": one, "b": other}, Targets(GROUPS, labels))
    assert float(found.detach()) == pytest.approx(reference(one, other, loss, same), abs=1e-5)


def test_it_is_a_mean_over_rows_and_the_same_both_ways():
    torch.manual_seed(0)
    loss = ScoreMap(ScoreMap.Options())
    one, other = torch.randn(2, 2, 484)
    whole = loss({"a": one, "b": other}, Targets(GROUPS))
    each = [loss({"a": one[n, None], "b": other[n, None]}, Targets(GROUPS)) for n in (0, 1)]
    torch.testing.assert_close(whole, sum(each) / 2)
    torch.testing.assert_close(whole, loss({"a": other, "b": one}, Targets(GROUPS)))
    assert not loss.gathers


def test_its_gradients():
    torch.manual_seed(0)
    loss = ScoreMap(ScoreMap.Options()).double()
    one = torch.randn(1, 484, requires_grad=True)
    loss({"a": one, "b": torch.randn(1, 484)}, Targets(GROUPS)).backward()
    assert one.grad.abs().max() > 0
    assert loss.scale.grad is not None and loss.bias.grad is not None


def test_a_target_in_the_middle_costs_less_than_one_elsewhere():
    torch.manual_seed(0)
    loss = ScoreMap(ScoreMap.Options(radius=4))  # the middle alone is right
    maps = torch.randn(1, 4, 22, 22)
    moved = maps.roll(5, dims=3)
    with torch.no_grad():
        here, there = (
            loss({"a": maps.flatten(1), "b": other.flatten(1)}, Targets(GROUPS))
            for other in (maps, moved)
        )
    assert here < 0.7 * there


def test_embeddings_that_are_no_maps_are_refused():
    with pytest.raises(errors.RecipeError, match="22 × 22 places, and finds embeddings of 256"):
        as_maps(torch.zeros(2, 256))
