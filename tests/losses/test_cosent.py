from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from msiam.errors import RecipeError
from msiam.losses.base import Given, Targets
from msiam.losses.cosent import CoSENT
from msiam.registry.conformance import check_loss

SAME = [True, False, False, True, False, False, True]
SCORES = [3.0, 1.0, 5.0, 3.0, 0.5, 1.0, 3.0]  # three of 3 and two of 1


def reference(scores, scale=20.0):
    """log(1 + Σ over every pair of pairs whose scores differ), one at a time."""

    def cost(a, b):
        s = [scale * (left * right).sum() for left, right in zip(a, b, strict=True)]
        terms = [
            s[j] - s[i]
            for i, high in enumerate(scores)
            for j, low in enumerate(scores)
            if high > low
        ]
        return torch.stack([(a * 0).sum() + (b * 0).sum(), *terms]).logsumexp(0)

    return cost


@pytest.fixture(scope="module")
def loss(make):
    """The loss as a function of two matrices. Booleans are labels."""

    def loss(scores, **options):
        module = make(CoSENT, **options)
        of = torch.tensor(scores)
        labelled = of.dtype == torch.bool

        def run(a, b):
            groups = dict.fromkeys("ab", torch.arange(len(a)))
            given = Targets(groups, same=of) if labelled else Targets(groups, scores=of)
            return module({"a": a, "b": b}, given)

        return run

    return loss


def test_it_keeps_the_contract_of_losses():
    check_loss(CoSENT)
    check_loss(CoSENT, {"scale": 1.0})


def test_by_hand(loss):
    a = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    b = torch.tensor([[0.6, 0.8], [0.8, 0.6]])
    # The pair that differs is 0.2 more similar than the one that is the same.
    right = pytest.approx(math.log(1 + math.exp(20 * 0.2)))
    assert loss([True, False])(a, b).item() == right
    assert loss([0.9, 0.1])(a, b).item() == right
    three = [torch.cat([t, t[:1]]) for t in (a, b)]
    # And a third, of the first's similarity: above both, it costs e⁴ against the second, and 1.
    found = loss([0.9, 0.1, 1.0])(*three).item()
    assert found == pytest.approx(math.log(1 + 2 * math.exp(20 * 0.2) + 1))


@pytest.mark.parametrize("scores", [SAME, SCORES, [7, 6, 5, 4, 3, 2, 1], [-1.0, 0.0] * 3 + [0.0]])
@pytest.mark.parametrize("options", [{}, {"scale": 1.0}, {"scale": 50.0}])
def test_it_is_the_reference_in_value_and_gradient(loss, agree, unit, scores, options):
    agree(loss(scores, **options), reference(scores, **options), unit(7), unit(7, seed=1))


@given(st.data(), st.integers(1, 12), st.integers(1, 6), st.sampled_from([1.0, 20.0]))
def test_whatever_the_scores(loss, agree, unit, data, rows, width, scale):
    levels = st.sampled_from([-2.0, 0.0, 0.5, 1e-9, 3.0]) | st.floats(-5, 5, width=32)
    scores = data.draw(st.lists(levels, min_size=rows, max_size=rows))
    vectors = unit(rows, width), unit(rows, width, seed=1)
    agree(loss(scores, scale=scale), reference(scores, scale), *vectors, dtype=torch.float64)


def test_columns_of_one_tower_share_their_items(loss, agree, unit):
    left, right = torch.tensor([0, 1, 2, 0, 4, 3, 0]), torch.tensor([1, 4, 2, 1, 1, 2, 0])

    def shared(cost):
        return lambda items: cost(items[left], items[right])

    agree(shared(loss(SCORES)), shared(reference(SCORES)), unit(5))


@pytest.mark.parametrize("scores", [SAME, SCORES])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e2, 1e3, 1e4])
def test_no_scale_overflows(loss, unit, value_and_gradients, scale, scores):
    right, slopes = value_and_gradients(reference(scores, scale), unit(7), unit(7, seed=1))
    for dtype, digits in ((torch.float64, 1e-9), (torch.float32, 1e-5)):
        a, b = unit(7, dtype=dtype), unit(7, seed=1, dtype=dtype)
        value, gradients = value_and_gradients(loss(scores, scale=scale), a, b)
        torch.testing.assert_close(value.double(), right, rtol=digits, atol=digits)
        for gradient, slope in zip(gradients, slopes, strict=True):
            most = max(slope.abs().max().item(), 1)
            torch.testing.assert_close(
                gradient.double(), slope, rtol=0, atol=max(1, scale) * digits * most
            )


@pytest.mark.parametrize("same", [[True] * 3, [False] * 3, [0.5] * 3, [True], [2.0]])
def test_where_nothing_ranks_it_costs_nothing(loss, unit, value_and_gradients, same):
    value, gradients = value_and_gradients(loss(same), unit(len(same)), unit(len(same), seed=1))
    assert value == 0
    assert not any(gradient.any() for gradient in gradients)


def test_of_no_row_it_costs_nothing(make):
    none = torch.ones(0, 4)
    given = Targets(dict.fromkeys("ab", torch.arange(0)), scores=torch.zeros(0))
    assert make(CoSENT)({"a": none, "b": none}, given) == 0


def test_scores_go_before_labels(make, loss, unit):
    a, b = unit(7), unit(7, seed=1)
    both = Targets(dict.fromkeys("ab", torch.arange(7)), torch.tensor(SAME), torch.tensor(SCORES))
    assert torch.equal(make(CoSENT)({"a": a, "b": b}, both), loss(SCORES)(a, b))


def test_embeddings_that_tie(loss, agree, unit):
    one = unit(1).expand(7, -1)
    agree(loss(SCORES), reference(SCORES), one, unit(1, seed=1).expand(7, -1))


@pytest.mark.parametrize("scores", [SAME, SCORES])
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_gradcheck(loss, unit, scores, scale):
    a, b = unit(7).requires_grad_(), unit(7, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(loss(scores, scale=scale), (a, b))


def test_many_rows_lose_no_digits(loss, unit, value_and_gradients):
    scores = torch.rand(4096, generator=torch.Generator().manual_seed(0))
    a, b = unit(4096, seed=2), unit(4096, seed=3)
    s = 20 * (a * b).sum(1)
    pairs = (s - s[:, None])[scores[:, None] > scores]
    value, _ = value_and_gradients(loss(scores.tolist()), a.float(), b.float())
    assert value.item() == pytest.approx(pairs.logsumexp(0).item(), rel=1e-6)


def test_bf16_is_computed_in_float32(loss, unit, value_and_gradients):
    a, b = (unit(7, seed=seed, dtype=torch.bfloat16) for seed in range(2))
    right, slopes = value_and_gradients(loss(SCORES), a.float(), b.float())
    value, gradients = value_and_gradients(loss(SCORES), a, b)
    assert value == right
    for gradient, slope in zip(gradients, slopes, strict=True):
        assert torch.equal(gradient, slope.bfloat16())


def test_strided_and_expanded_embeddings(loss, unit, value_and_gradients):
    a, b = unit(7), unit(7, seed=1)
    strided = torch.cat([b, b], dim=1)[:, :6]
    assert not strided.is_contiguous()
    right = value_and_gradients(loss(SCORES), a, b)
    torch.testing.assert_close(value_and_gradients(loss(SCORES), a, strided), right)
    one = b[:1].expand(7, -1)
    torch.testing.assert_close(loss(SCORES)(a, one), loss(SCORES)(a, one.contiguous()))


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("row", range(7))
def test_what_is_no_number_stays_no_number(loss, unit, broken, row):
    a = unit(7)
    a[row] = 0
    a[row, 0] = broken  # the similarity is ∞ or −∞, or NaN
    assert not loss(SCORES)(a, unit(7, seed=1)).isfinite()
    assert not loss(SAME)(a, unit(7, seed=1)).isfinite()


def test_it_learns_from_scores_or_labels(make):
    for kind in ("scores", "labels"):
        make(CoSENT).check("cosent", Given(["a", "b"], [kind], dim=8))
    with pytest.raises(RecipeError, match=r"learns from score.* or from labelled pairs"):
        make(CoSENT).check("cosent", Given(["a", "b"], [], dim=8))
