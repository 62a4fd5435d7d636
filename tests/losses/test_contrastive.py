from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from msiam.losses.contrastive import Contrastive

SAME = [True, False, False, True, False]


@pytest.fixture(scope="module")
def loss(make, targets):
    """The loss as a function of two matrices."""

    def loss(same, **options):
        module = make(Contrastive, **options)
        return lambda a, b: module({"a": a, "b": b}, targets(len(a), same=same))

    return loss


def reference(same, margin=1.0, halves=True):
    """(1−Y)·½D² + Y·½·max(m−D, 0)², a row at a time; Y = 0 for the same."""

    def cost(a, b):
        total = 0
        for left, right, y in zip(a, b, [1 - int(s) for s in same], strict=True):
            distance = ((left - right) ** 2).sum().sqrt()
            total += (1 - y) * 0.5 * distance**2 + y * 0.5 * (margin - distance).clamp(min=0) ** 2
        return total / len(same) * (1 if halves else 2)

    return cost


def test_by_hand(loss):
    a = torch.tensor([[0.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    b = torch.tensor([[3.0, 4.0], [0.3, 0.4], [30.0, 40.0]])
    # ½·25 for the same; ½·(1 − 0.5)² for the near one that differs; nothing beyond the margin.
    assert loss([True, False, False])(a, b).item() == pytest.approx((12.5 + 0.125) / 3)


@pytest.mark.parametrize("options", [{}, {"margin": 0.5}, {"margin": 1.9}, {"halves": False}])
def test_it_is_the_reference_in_value_and_gradient(loss, agree, unit, options):
    agree(loss(SAME, **options), reference(SAME, **options), unit(5), unit(5, seed=1))


@given(st.data())
def test_whatever_the_batch(loss, agree, any_batch, data):
    with any_batch(data, labelled=True) as (targets, vectors):
        same = targets.same.tolist()
        agree(loss(same, margin=1.5), reference(same, margin=1.5), *vectors, dtype=torch.float64)


def test_columns_of_one_tower_share_their_items(loss, agree, unit, of_one_tower):
    same = [*SAME, True, False]
    agree(of_one_tower(loss(same), 2), of_one_tower(reference(same), 2), unit(5))


def balanced(same, margin=1.0):
    """The mean of what the same cost on average, and of what the others do."""

    def cost(a, b):
        kinds = [[row for row, s in enumerate(same) if s is kind] for kind in (True, False)]
        means = [reference([same[r] for r in k], margin)(a[k], b[k]) for k in kinds if k]
        return sum(means) / len(means)

    return cost


@pytest.mark.parametrize("same", [SAME, [True, False, False, False], [True] * 3, [False], [True]])
def test_balanced_the_two_kinds_of_pairs_weigh_alike(loss, agree, unit, same):
    vectors = unit(len(same)), unit(len(same), seed=1)
    agree(loss(same, balanced=True, margin=1.5), balanced(same, 1.5), *vectors)


@pytest.mark.parametrize("same", [[True] * 4, [False] * 4, [True], [False]])
def test_batches_of_one_kind_or_of_one_row(loss, agree, unit, same):
    agree(loss(same), reference(same), unit(len(same)), unit(len(same), seed=1))


@pytest.mark.parametrize("balanced", [False, True])
def test_no_rows_cost_nothing(loss, value_and_gradients, balanced):
    value, gradients = value_and_gradients(
        loss([], balanced=balanced), torch.zeros(0, 6), torch.zeros(0, 6)
    )
    assert value == 0
    assert [gradient.shape for gradient in gradients] == [(0, 6), (0, 6)]


@pytest.mark.parametrize("balanced", [False, True])
def test_gradcheck(loss, unit, balanced):
    a, b = unit(5).requires_grad_(), unit(5, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(loss(SAME, margin=1.5, balanced=balanced), (a, b))


def test_the_halves_are_the_papers_factors(loss, unit):
    a, b = unit(5), unit(5, seed=1)
    assert loss(SAME, halves=False)(a, b) == pytest.approx(2 * loss(SAME)(a, b))


@pytest.mark.parametrize("same", [True, False])
def test_at_distance_zero_the_gradient_is_zero(loss, unit, value_and_gradients, same):
    value, gradients = value_and_gradients(loss([same, same]), unit(2), unit(2))
    assert value.item() == pytest.approx(0.0 if same else 0.5)
    assert not any(gradient.any() for gradient in gradients)


def test_beyond_the_margin_nothing_pushes(loss, value_and_gradients):
    a, b = torch.tensor([[1.0, 0.0]]), torch.tensor([[-1.0, 0.0]])
    value, gradients = value_and_gradients(loss([False]), a, b)
    assert value == 0
    assert not any(gradient.any() for gradient in gradients)


def test_in_bf16_it_is_what_float32_gives_but_for_the_digits(loss, unit, value_and_gradients):
    a, b = unit(5, dtype=torch.bfloat16), unit(5, seed=1, dtype=torch.bfloat16)
    right, slopes = value_and_gradients(loss(SAME), a.float(), b.float())
    value, gradients = value_and_gradients(loss(SAME), a, b)
    torch.testing.assert_close(value.float(), right, rtol=0.02, atol=0.02)
    for gradient, slope in zip(gradients, slopes, strict=True):
        assert gradient.dtype == torch.bfloat16
        torch.testing.assert_close(gradient.float(), slope, rtol=0.05, atol=0.02)


def test_strided_and_expanded_embeddings(loss, unit):
    a, b = unit(5), unit(5, seed=1)
    strided = torch.cat([b, b], dim=1)[:, :6]
    assert not strided.is_contiguous()
    torch.testing.assert_close(loss(SAME)(a, strided), loss(SAME)(a, b))
    one = b[:1].expand(5, -1)
    torch.testing.assert_close(loss(SAME)(a, one), loss(SAME)(a, one.contiguous()))


def test_what_is_no_number_stays_no_number(loss, unit):
    a = unit(5)
    a[2] = math.nan
    assert loss(SAME)(a, unit(5, seed=1)).isnan()
