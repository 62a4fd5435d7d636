from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from msiam.errors import RecipeError
from msiam.losses.base import Given, Targets
from msiam.losses.margin_mse import MarginMSE
from msiam.registry.conformance import check_loss

# The negatives of rows 1 and 4 are known to match. Several margins are equal, and one is below 0.
ANCHORS = [0, 1, 2, 0, 4, 5, 6]
NEGATIVES = [10, 1, 12, 13, 4, 0, 16]
SCORES = [0.5, 3.0, -0.25, 0.5, 1.0, 0.0, 0.5]


def reference(scores=SCORES, scale=1.0, anchors=ANCHORS, negatives=NEGATIVES):
    """The squared error of the margin, or of two columns that of the similarity, row by row."""

    def cost(a, p, *n):
        errors = []
        for i, score in enumerate(scores):
            if not n:
                errors.append((scale * (a[i] @ p[i]) - score) ** 2)
            elif anchors[i] != negatives[i]:
                errors.append((scale * (a[i] @ p[i] - a[i] @ n[0][i]) - score) ** 2)
        return sum((v * 0).sum() for v in (a, p, *n)) + sum(errors) / max(len(errors), 1)

    return cost


@pytest.fixture(scope="module")
def loss(make):
    """The loss as a function of two matrices or of three."""

    def loss(scores=SCORES, anchors=ANCHORS, negatives=NEGATIVES, same=None, **options):
        module = make(MarginMSE, **options)
        groups = map(torch.tensor, (anchors, anchors, negatives))
        numbers = dict(zip("apn", groups, strict=True))

        def run(*vectors):
            columns = dict(zip("apn", vectors, strict=False))
            given = {column: numbers[column] for column in columns}
            labels = None if same is None else torch.tensor(same)
            return module(columns, Targets(given, labels, torch.tensor(scores)))

        return run

    return loss


@pytest.fixture(params=[2, 3])
def vectors(request, unit):
    return [unit(7, seed=seed) for seed in range(request.param)]


def test_it_keeps_the_contract_of_losses():
    check_loss(MarginMSE)
    check_loss(MarginMSE, {"scale": 20.0})


def test_by_hand(loss):
    anchor, positive = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.6, 0.8]])
    negative = torch.tensor([[-0.8, 0.6]])
    one = {"scores": [2.0], "anchors": [0], "negatives": [1]}
    # The margin is 0.6 + 0.8, and should be 2.
    assert loss(**one)(anchor, positive, negative).item() == pytest.approx(0.6**2)
    assert loss(**one, scale=5.0)(anchor, positive, negative).item() == pytest.approx(5.0**2)
    assert loss(**one)(anchor, positive).item() == pytest.approx(1.4**2)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 20.0, 1e2])
def test_it_is_the_reference_in_value_and_gradient(loss, agree, vectors, scale):
    agree(loss(scale=scale), reference(scale=scale), *vectors)


@given(st.data())
def test_whatever_the_rows(loss, agree, unit, data):
    rows = data.draw(st.integers(1, 8))

    def several(what):
        return data.draw(st.lists(what, min_size=rows, max_size=rows))

    options = {"anchors": several(st.integers(0, 2)), "negatives": several(st.integers(0, 2))}
    options |= {"scores": several(st.floats(-20, 20, width=32))}
    width, columns = data.draw(st.integers(1, 5)), data.draw(st.integers(2, 3))
    vectors = [unit(rows, width, seed) for seed in range(columns)]
    agree(loss(**options), reference(**options), *vectors, dtype=torch.float64)


def test_columns_of_one_tower_share_their_items(loss, agree, unit):
    places = [torch.tensor(row) for row in ([0, 1, 2, 0, 4, 3, 0], [1, 4, 2, 1, 1, 2, 0])]

    def shared(cost):
        return lambda items: cost(items[places[0]], items[places[1]], items[places[1].flip(0)])

    agree(shared(loss()), shared(reference()), unit(5))


def test_of_two_columns_it_is_the_mean_squared_error_whatever_the_groups(loss, unit):
    a, b = unit(7), unit(7, seed=1)
    right = torch.nn.functional.mse_loss((a * b).sum(1), torch.tensor(SCORES, dtype=a.dtype))
    torch.testing.assert_close(loss(anchors=[0] * 7)(a, b), right)


def test_a_row_whose_negative_is_known_to_match_has_no_gradient(loss, unit, value_and_gradients):
    _, gradients = value_and_gradients(loss(), *(unit(7, seed=seed) for seed in range(3)))
    for gradient in gradients:
        assert gradient.any(dim=1).tolist() == [True, False, True, True, False, True, True]


def test_of_no_row_it_costs_nothing(loss, unit, value_and_gradients):
    empty = {"scores": [], "anchors": [], "negatives": []}
    none = [torch.ones(0, 6)] * 3
    for run, vectors in (
        (loss(negatives=ANCHORS), [unit(7, seed=seed) for seed in range(3)]),
        (loss(**empty), none),
        (loss(**empty), none[:2]),
    ):
        value, gradients = value_and_gradients(run, *vectors)
        assert value == 0
        assert not any(gradient.any() for gradient in gradients)


def test_labels_of_pairs_mean_nothing(loss, vectors):
    assert torch.equal(loss(same=[False] * 7)(*vectors), loss()(*vectors))


def test_where_all_are_one_only_the_scores_are_left(loss, unit):
    one = unit(1).expand(7, -1)
    kept = [score for row, score in enumerate(SCORES) if row not in (1, 4)]
    assert loss()(one, one, one).item() == pytest.approx(sum(s**2 for s in kept) / 5)


def test_gradcheck(loss, vectors):
    leaves = [vector.requires_grad_() for vector in vectors]
    assert torch.autograd.gradcheck(loss(scale=2.0), leaves)


def test_bf16_is_computed_in_float32(loss, vectors, value_and_gradients):
    rough = [vector.bfloat16() for vector in vectors]
    right, slopes = value_and_gradients(loss(), *(vector.float() for vector in rough))
    value, gradients = value_and_gradients(loss(), *rough)
    assert value == right
    for gradient, slope in zip(gradients, slopes, strict=True):
        assert gradient.dtype == torch.bfloat16
        torch.testing.assert_close(gradient.float(), slope, rtol=0.01, atol=0.01)


def test_strided_and_expanded_embeddings(loss, vectors):
    strided = [torch.cat([vector, vector], dim=1)[:, :6] for vector in vectors]
    assert not strided[0].is_contiguous()
    torch.testing.assert_close(loss()(*strided), loss()(*vectors))
    one = vectors[0][:1].expand(7, -1)
    torch.testing.assert_close(loss()(one, *vectors[1:]), loss()(one.contiguous(), *vectors[1:]))


@pytest.mark.parametrize("row", [0, 1])  # the second is left out
@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_what_is_no_number_stays_no_number(loss, unit, broken, row):
    vectors = [unit(7, seed=seed) for seed in range(3)]
    vectors[2][row, 0] = broken
    assert not loss()(*vectors).isfinite()


def test_it_learns_from_scores(make):
    with pytest.raises(RecipeError, match="margin_mse learns from score"):
        make(MarginMSE).check("margin_mse", Given(["a", "p", "n"], ["labels"], dim=8))
    with pytest.raises(RecipeError, match="margin_mse takes 2 or 3 columns; the recipe has 4"):
        make(MarginMSE).check("margin_mse", Given(list("apno"), ["scores"], dim=8))
