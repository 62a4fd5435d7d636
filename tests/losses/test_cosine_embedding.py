from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from msiam.errors import RecipeError
from msiam.losses.base import Given, Targets
from msiam.losses.cosine_embedding import CosineEmbedding
from msiam.registry.conformance import check_loss

SAME = [True, False, False, True, False]


@pytest.fixture(scope="module")
def loss(make, targets):
    """The loss as a function of two matrices."""

    def loss(same, **options):
        module = make(CosineEmbedding, **options)
        return lambda a, b: module({"a": a, "b": b}, targets(len(a), same=same))

    return loss


def reference(same, margin=0.0):
    """1 − cos, or what of the cosine is above the margin, a row at a time."""

    def cost(a, b):
        total = 0
        for left, right, together in zip(a, b, same, strict=True):
            cosine = (left * right).sum() / ((left**2).sum() * (right**2).sum()).sqrt()
            total += 1 - cosine if together else (cosine - margin).clamp(min=0)
        return total / len(same)

    return cost


def test_by_hand(loss):
    a = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    b = torch.tensor([[3.0, 4.0], [0.8, 0.6], [-1.0, 0.0]])
    # 1 − 0.6 for the same; 0.8 − 0.5 for the near one that differs; nothing for its opposite.
    assert loss([True, False, False], margin=0.5)(a, b).item() == pytest.approx(0.7 / 3)


@pytest.mark.parametrize("options", [{}, {"margin": 0.3}, {"margin": -0.9}])
@pytest.mark.parametrize("length", [1.0, 7.0])
def test_it_is_the_reference_in_value_and_gradient(loss, agree, unit, options, length):
    agree(loss(SAME, **options), reference(SAME, **options), unit(5), length * unit(5, seed=1))


@given(st.data())
def test_whatever_the_batch(loss, agree, any_batch, data):
    with any_batch(data, labelled=True) as (targets, vectors):
        same = targets.same.tolist()
        agree(loss(same, margin=-0.5), reference(same, margin=-0.5), *vectors, dtype=torch.float64)


def test_columns_of_one_tower_share_their_items(loss, agree, unit, of_one_tower):
    same = [*SAME, True, False]
    agree(of_one_tower(loss(same), 2), of_one_tower(reference(same), 2), unit(5))


@pytest.mark.parametrize("margin", [0.0, 0.4])
def test_it_is_what_pytorch_has(loss, unit, margin):
    a, b = unit(5), unit(5, seed=1)
    signs = torch.tensor(SAME) * 2 - 1
    theirs = torch.nn.functional.cosine_embedding_loss(a, b, signs, margin=margin)
    torch.testing.assert_close(loss(SAME, margin=margin)(a, b), theirs)


@pytest.mark.parametrize("same", [[True] * 4, [False] * 4, [True], [False]])
def test_batches_of_one_kind_or_of_one_row(loss, agree, unit, same):
    agree(loss(same), reference(same), unit(len(same)), unit(len(same), seed=1))


def test_no_rows_cost_nothing(loss, value_and_gradients):
    value, gradients = value_and_gradients(loss([]), torch.zeros(0, 6), torch.zeros(0, 6))
    assert value == 0
    assert [gradient.shape for gradient in gradients] == [(0, 6), (0, 6)]


def test_groups_change_nothing_since_no_row_meets_another(make, unit):
    vectors = {"a": unit(5), "b": unit(5, seed=1)}
    same, rows = torch.tensor(SAME), torch.arange(5)
    module = make(CosineEmbedding)
    alone = module(vectors, Targets({"a": rows, "b": rows + 5}, same))
    related = module(vectors, Targets({"a": rows * 0, "b": rows * 0}, same))
    assert torch.equal(alone, related)


def test_gradcheck(loss, unit):
    a, b = unit(5).requires_grad_(), unit(5, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(loss(SAME, margin=-0.5), (a, b))


def test_pairs_that_differ_are_left_alone_below_the_margin(loss, value_and_gradients):
    a, b = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.6, 0.8]])
    value, gradients = value_and_gradients(loss([False], margin=0.7), a, b)
    assert value == 0
    assert not any(gradient.any() for gradient in gradients)


def test_equal_embeddings_and_zeros_have_finite_gradients(loss, unit, value_and_gradients):
    for a, b in ((unit(5), unit(5)), (torch.zeros(5, 6), unit(5).float())):
        value, gradients = value_and_gradients(loss(SAME), a, b)
        assert value.isfinite()
        assert all(gradient.isfinite().all() for gradient in gradients)


def test_in_bf16_it_is_what_float32_gives_but_for_the_digits(loss, unit, value_and_gradients):
    a, b = (unit(5, seed=seed, dtype=torch.bfloat16) for seed in range(2))
    right, slopes = value_and_gradients(loss(SAME), a.float(), b.float())
    value, gradients = value_and_gradients(loss(SAME), a, b)
    torch.testing.assert_close(value.float(), right)
    for gradient, slope in zip(gradients, slopes, strict=True):
        assert gradient.dtype == torch.bfloat16
        torch.testing.assert_close(gradient.float(), slope, rtol=0.05, atol=0.02)


def test_strided_and_expanded_embeddings(loss, unit):
    a, b = unit(5), unit(5, seed=1)
    torch.testing.assert_close(loss(SAME)(a, torch.cat([b, b], dim=1)[:, :6]), loss(SAME)(a, b))
    one = b[:1].expand(5, -1)
    torch.testing.assert_close(loss(SAME)(a, one), loss(SAME)(a, one.contiguous()))


def test_what_is_no_number_stays_no_number(loss, unit):
    a = unit(5)
    a[2] = math.nan
    assert loss(SAME)(a, unit(5, seed=1)).isnan()


def test_it_learns_from_labels_and_has_a_margin_below_1(make):
    with pytest.raises(RecipeError, match="learns from labelled pairs"):
        make(CosineEmbedding).check("cosine_embedding", Given(["a", "b"], {}, dim=8))
    with pytest.raises(RecipeError, match=r"margin: found 1\.0; Input should be less than 1"):
        make(CosineEmbedding, margin=1.0)


@pytest.mark.parametrize("options", [{}, {"margin": 0.3}])
def test_conformance(options):
    check_loss(CosineEmbedding, options)
