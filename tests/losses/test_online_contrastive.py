from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from msiam.errors import RecipeError
from msiam.losses.base import Given, Targets
from msiam.losses.online_contrastive import OnlineContrastive
from msiam.registry.conformance import check_loss

SAME = [True, False, False, True, False, True, False]


@pytest.fixture(scope="module")
def loss(make, targets):
    """The loss as a function of two matrices."""

    def loss(same, **options):
        module = make(OnlineContrastive, **options)
        return lambda a, b: module({"a": a, "b": b}, targets(len(a), same=same))

    return loss


def between(left, right, kind):
    if kind == "euclidean":
        return ((left - right) ** 2).sum().sqrt()
    return 1 - (left * right).sum() / ((left**2).sum() * (right**2).sum()).sqrt()


def reference(same, margin=0.5, distance="cosine", mean=True):
    """D² or max(m − D, 0)², for each pair that some pair of the other kind outdoes."""

    def cost(a, b):
        total, count = (a * 0).sum() + (b * 0).sum(), 0
        all_of = [between(x, y, distance) for x, y in zip(a, b, strict=True)]
        kinds = {kind: [d for d, s in zip(all_of, same, strict=True) if s is kind] for kind in same}
        for d, together in zip(all_of, same, strict=True):
            own = kinds[together]
            others = kinds.get(not together) or [sum(own) / len(own)]
            if any(d > other if together else d < other for other in others):
                total = total + (d if together else (margin - d).clamp(min=0)) ** 2
                count += 1
        return total / max(count, 1) if mean else total

    return cost


def test_by_hand(loss):
    a = torch.zeros(5, 2)
    b = torch.tensor([[0.1, 0.0], [0.6, 0.0], [0.0, 0.4], [0.0, 0.5], [0.9, 0.0]])
    same = [True, True, False, False, False]
    # The pair at 0.1 is nearer than any that differs, and that at 0.9 is farther than any other.
    hard = 0.6**2 + (0.7 - 0.4) ** 2 + (0.7 - 0.5) ** 2
    run = {"margin": 0.7, "distance": "euclidean"}
    assert loss(same, **run)(a, b).item() == pytest.approx(hard / 3)
    assert loss(same, mean=False, **run)(a, b).item() == pytest.approx(hard)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("mean", [True, False])
@pytest.mark.parametrize("margin", [0.5, 1.5])
@pytest.mark.parametrize("seed", range(3))
def test_it_is_the_reference_in_value_and_gradient(loss, agree, unit, distance, mean, margin, seed):
    options = {"distance": distance, "mean": mean, "margin": margin}
    vectors = unit(7, seed=2 * seed), unit(7, seed=2 * seed + 1)
    agree(loss(SAME, **options), reference(SAME, **options), *vectors)


@given(st.data())
def test_whatever_the_batch(loss, agree, any_batch, data):
    options = {"margin": 1.5, "distance": data.draw(st.sampled_from(["cosine", "euclidean"]))}
    with any_batch(data, labelled=True) as (targets, vectors):
        same = targets.same.tolist()
        run, right = loss(same, **options), reference(same, **options)
        agree(run, right, *vectors, dtype=torch.float64)


def test_columns_of_one_tower_share_their_items(loss, agree, unit, of_one_tower):
    run, right = loss(SAME, margin=1.5), reference(SAME, margin=1.5)
    agree(of_one_tower(run, 2), of_one_tower(right, 2), unit(5), dtype=torch.float64)


@pytest.mark.parametrize("same", [[True] * 4, [False] * 4, [True], [False], [True, False]])
def test_batches_of_one_kind_or_of_few_rows(loss, agree, unit, same):
    agree(loss(same), reference(same), unit(len(same)), unit(len(same), seed=1))


def test_where_all_pairs_are_ranked_right_nothing_is_left_to_learn(loss, value_and_gradients):
    a = torch.tensor([[1.0, 0.0]] * 3)
    b = torch.tensor([[1.0, 0.1], [1.0, 0.9], [1.0, 1.0]])
    value, gradients = value_and_gradients(loss([True, False, False], margin=2.0), a, b)
    assert value == 0
    assert not any(gradient.any() for gradient in gradients)


def test_pairs_that_tie_are_not_hard(loss, unit):
    assert loss([True, False, True])(unit(3), unit(3)) == 0
    assert loss([True, True, True])(unit(3), unit(3)) == 0


def test_sentence_transformers_where_both_kinds_are_there_twice(loss, unit):
    """Their few lines: the pairs are picked out of each kind, and their costs summed."""
    a, b = unit(7, dtype=torch.float32), unit(7, seed=1, dtype=torch.float32)
    same = torch.tensor(SAME)
    d = 1 - torch.nn.functional.cosine_similarity(a, b)
    together, apart = d[same], d[~same]
    hard = together[together > apart.min()], apart[apart < together.max()]
    theirs = hard[0].pow(2).sum() + (0.5 - hard[1]).relu().pow(2).sum()
    torch.testing.assert_close(loss(SAME, mean=False)(a, b), theirs)


def test_groups_change_nothing_since_pairs_are_as_labelled(make, unit):
    vectors = {"a": unit(7), "b": unit(7, seed=1)}
    same, rows = torch.tensor(SAME), torch.arange(7)
    module = make(OnlineContrastive)
    alone = module(vectors, Targets({"a": rows, "b": rows + 7}, same))
    related = module(vectors, Targets({"a": rows * 0, "b": rows * 0}, same))
    assert torch.equal(alone, related)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_gradcheck(loss, unit, distance):
    a, b = unit(7).requires_grad_(), unit(7, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(loss(SAME, margin=1.5, distance=distance), (a, b))


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_at_distance_zero_the_gradient_is_finite(loss, unit, value_and_gradients, distance):
    a, b = unit(3), unit(3)
    b[0] = -b[0]  # the pair that is the same is farthest, so that the others are hard
    run = loss([True, False, False], distance=distance)
    value, gradients = value_and_gradients(run, a, b)
    assert value > 0
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_in_bf16_it_is_what_float32_gives_but_for_the_digits(loss, unit, value_and_gradients):
    a, b = (unit(7, seed=seed, dtype=torch.bfloat16) for seed in range(2))
    right, slopes = value_and_gradients(loss(SAME), a.float(), b.float())
    value, gradients = value_and_gradients(loss(SAME), a, b)
    torch.testing.assert_close(value.float(), right)
    for gradient, slope in zip(gradients, slopes, strict=True):
        assert gradient.dtype == torch.bfloat16
        torch.testing.assert_close(gradient.float(), slope, rtol=0.05, atol=0.02)


def test_strided_and_expanded_embeddings(loss, unit):
    a, b = unit(7), unit(7, seed=1)
    torch.testing.assert_close(loss(SAME)(a, torch.cat([b, b], dim=1)[:, :6]), loss(SAME)(a, b))
    one = b[:1].expand(7, -1)
    torch.testing.assert_close(loss(SAME)(a, one), loss(SAME)(a, one.contiguous()))


@pytest.mark.parametrize("row", range(2))
def test_what_is_no_number_stays_no_number(loss, unit, row):
    a = unit(7)
    a[row] = math.nan
    assert loss(SAME)(a, unit(7, seed=1)).isnan()


def test_it_learns_from_labels(make):
    with pytest.raises(RecipeError, match="learns from labelled pairs"):
        make(OnlineContrastive).check("online_contrastive", Given(["a", "b"], {}, dim=8))


@pytest.mark.parametrize("options", [{}, {"distance": "euclidean"}, {"mean": False}])
def test_conformance(options):
    check_loss(OnlineContrastive, options)
