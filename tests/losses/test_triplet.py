from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from msiam.errors import PluginError, RecipeError
from msiam.losses import tiles
from msiam.losses.base import Targets
from msiam.losses.triplet import Triplet
from msiam.registry.conformance import check_loss


def distance(a, b, kind):
    if kind == "cosine":
        return 1 - (a @ b) / (a.norm() * b.norm())
    squared = ((a - b) ** 2).sum()
    return squared if kind == "squared" else squared.sqrt()


def three_columns(margin=0.2, distance_kind="squared", soft=False, average="all"):
    def cost(anchor, positive, negative):
        costs = []
        for a, p, n in zip(anchor, positive, negative, strict=True):
            nearer = distance(a, p, distance_kind) - distance(a, n, distance_kind)
            costs.append((1 + nearer.exp()).log() if soft else (nearer + margin).clamp(min=0))
        counted = [c for c in costs if average == "all" or c > 0]
        return sum(costs) / max(len(counted), 1)

    return cost


def two_columns(targets: Targets, margin=0.2, distance_kind="squared"):
    """For each positive row the nearest of the second column that is of another group."""

    def cost(a, b):
        total, count = (a * 0).sum() + (b * 0).sum(), 0
        for i in range(len(a)):
            others = [j for j in range(len(b)) if targets.groups["b"][j] != targets.groups["a"][i]]
            if others and (targets.same is None or targets.same[i]):
                j = min(others, key=lambda j: distance(a[i], b[j], "squared").item())
                near, far = distance(a[i], b[i], distance_kind), distance(a[i], b[j], distance_kind)
                total, count = total + (near - far + margin).clamp(min=0), count + 1
        return total / max(count, 1)

    return cost


@pytest.fixture(scope="module")
def loss(make):
    """The loss as a function of matrices. Without targets, each row and its negative are apart."""

    def loss(targets=None, **options):
        module = make(Triplet, **options)

        def cost(*vectors):
            rows = torch.arange(len(vectors[0]))
            apart = Targets({"a": rows, "b": rows, "c": -1 - rows})
            return module(dict(zip("abc", vectors, strict=False)), targets or apart)

        return cost

    return loss


# ---- Three columns: anchor, positive, negative


def test_by_hand(loss):
    anchor = torch.tensor([[0.0, 0.0], [0.0, 0.0]])
    positive = torch.tensor([[0.0, 3.0], [1.0, 0.0]])
    negative = torch.tensor([[2.0, 0.0], [9.0, 0.0]])
    squared = loss(margin=0.5)(anchor, positive, negative)
    assert squared.item() == pytest.approx((9 - 4 + 0.5) / 2)
    plain = loss(margin=0.5, distance="euclidean")(anchor, positive, negative)
    assert plain.item() == pytest.approx((3 - 2 + 0.5) / 2)


def test_a_negative_that_is_known_to_match_costs_nothing(loss, unit):
    vectors = [unit(3, seed=seed) for seed in range(3)]
    rows = torch.arange(3)
    targets = Targets({"a": rows, "b": rows, "c": torch.tensor([9, 1, 9])})
    kept = [part[[0, 2]] for part in vectors]
    assert loss(targets, margin=3)(*vectors).item() == pytest.approx(loss(margin=3)(*kept).item())
    labelled = Targets({"a": rows, "b": rows, "c": rows + 9}, torch.tensor([True, False, True]))
    assert loss(labelled, margin=3)(*vectors).item() == pytest.approx(loss(margin=3)(*kept).item())


@pytest.mark.parametrize("kind", ["squared", "euclidean", "cosine"])
@pytest.mark.parametrize("margin", [0.01, 0.2, 3.0])
@pytest.mark.parametrize("average", ["all", "nonzero"])
def test_three_columns_are_the_reference(loss, agree, unit, kind, margin, average):
    vectors = [unit(7, seed=seed) for seed in range(3)]
    run = loss(margin=margin, distance=kind, average=average)
    agree(run, three_columns(margin, kind, average=average), *vectors)


@given(st.data(), st.integers(1, 8), st.integers(2, 5))
def test_whatever_the_triplets(loss, agree, unit, data, rows, width):
    kind = data.draw(st.sampled_from(["squared", "euclidean", "cosine"]))
    average = data.draw(st.sampled_from(["all", "nonzero"]))
    margin, seed = data.draw(st.sampled_from([0.01, 0.5, 3.0])), data.draw(st.integers(0, 99))
    run = loss(margin=margin, distance=kind, average=average)
    right = three_columns(margin, kind, average=average)
    vectors = [unit(rows, width, seed + column) for column in range(3)]
    agree(run, right, *vectors, dtype=torch.float64)


@pytest.mark.parametrize("kind", ["squared", "euclidean", "cosine"])
def test_columns_of_one_tower_share_their_items(loss, agree, unit, of_one_tower, kind):
    run, right = loss(margin=1.0, distance=kind), three_columns(1.0, kind)
    agree(of_one_tower(run, 3), of_one_tower(right, 3), unit(5))


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("kind", ["squared", "euclidean", "cosine"])
def test_three_columns_strided_expanded_and_in_bf16(loss, unit, value_and_gradients, kind, soft):
    run = loss(margin=1.0, distance=kind, soft=soft)
    vectors = [unit(7, seed=seed, dtype=torch.float32) for seed in range(3)]
    strided = [torch.cat([vector, vector], dim=1)[:, :6] for vector in vectors]
    torch.testing.assert_close(run(*strided), run(*vectors))
    one = vectors[0][:1].expand(7, -1)
    torch.testing.assert_close(run(one, *vectors[1:]), run(one.contiguous(), *vectors[1:]))
    rough = [vector.bfloat16() for vector in vectors]
    right, slopes = value_and_gradients(run, *(vector.float() for vector in rough))
    value, gradients = value_and_gradients(run, *rough)
    torch.testing.assert_close(value.float(), right, rtol=0.03, atol=0.03)
    for gradient, slope in zip(gradients, slopes, strict=True):
        assert gradient.dtype == torch.bfloat16
        torch.testing.assert_close(gradient.float(), slope, rtol=0.1, atol=0.03)


@pytest.mark.parametrize("kind", ["squared", "euclidean", "cosine"])
def test_a_soft_margin(loss, agree, unit, kind):
    vectors = [unit(7, seed=seed) for seed in range(3)]
    agree(loss(soft=True, distance=kind), three_columns(soft=True, distance_kind=kind), *vectors)
    far = [1e3 * vector for vector in vectors]  # its exponential is no number; the loss is one
    assert loss(soft=True)(*far).isfinite()


def test_the_cosine_does_not_ask_for_length_1(loss, agree, unit):
    vectors = [(seed + 1) * unit(7, seed=seed) for seed in range(3)]
    agree(loss(distance="cosine"), three_columns(distance_kind="cosine"), *vectors)


def test_a_single_triplet(loss, agree, unit):
    agree(loss(), three_columns(), *(unit(1, seed=seed) for seed in range(3)))


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("kind", ["squared", "euclidean", "cosine"])
def test_gradcheck(loss, unit, kind, soft):
    vectors = [unit(5, seed=seed).requires_grad_() for seed in range(3)]
    assert torch.autograd.gradcheck(loss(margin=2.0, distance=kind, soft=soft), vectors)


def test_where_anchor_and_positive_are_one_the_gradient_is_finite(loss, unit, value_and_gradients):
    anchor, negative = unit(3), unit(3, seed=1)
    run = loss(margin=2.0, distance="euclidean")
    _, gradients = value_and_gradients(run, anchor, anchor, negative)
    assert all(gradient.isfinite().all() for gradient in gradients)


# ---- Two columns: the negative is mined


@pytest.mark.parametrize("kind", ["squared", "euclidean", "cosine"])
@pytest.mark.parametrize("tile", [1, 25, 1 << 22])
@pytest.mark.parametrize(
    ("groups", "same"),
    [
        (None, None),
        (None, [True, False, True, True, False, True, True, True]),
        ([0, 1, 2, 0, 1, 5, 0, 7], None),
        ([0, 1, 2, 0, 1, 5, 0, 7], [True, True, True, False, True, False, True, True]),
    ],
)
def test_two_columns_are_the_reference(
    loss, agree, unit, targets, monkeypatch, kind, tile, groups, same
):
    monkeypatch.setattr(tiles, "TILE", tile)
    given = targets(8, groups, same)
    run = loss(given, margin=0.7, distance=kind)
    agree(run, two_columns(given, 0.7, kind), unit(8), unit(8, seed=1))


@pytest.mark.parametrize(
    ("groups", "same"), [([0, 0, 0], None), (None, [False] * 3), ([0, 0, 0], [False, True, True])]
)
def test_without_a_positive_or_a_negative_it_costs_nothing(
    loss, unit, targets, value_and_gradients, groups, same
):
    given = targets(3, groups, same)
    if groups:
        given = Targets({"a": given.groups["a"], "b": given.groups["a"]}, given.same)
    value, gradients = value_and_gradients(loss(given), unit(3), unit(3, seed=1))
    assert value == 0
    assert not any(gradient.any() for gradient in gradients)


def test_a_single_pair_has_no_negative(loss, unit, targets, value_and_gradients):
    value, gradients = value_and_gradients(loss(targets(1)), unit(1), unit(1, seed=1))
    assert value == 0
    assert not any(gradient.any() for gradient in gradients)


def test_candidates_that_tie_cost_the_same(loss, unit, targets):
    a, b = unit(4), unit(4, seed=1)
    b[2] = b[3]
    given = targets(4)
    torch.testing.assert_close(loss(given, margin=2.0)(a, b), two_columns(given, 2.0)(a, b))


def test_mining_is_not_differentiated(loss, unit, targets):
    a, b = unit(6).requires_grad_(), unit(6, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(loss(targets(6), margin=2.0), (a, b))


@pytest.mark.parametrize("kind", ["squared", "euclidean"])
def test_in_bf16(loss, unit, targets, value_and_gradients, kind):
    a, b = (unit(8, seed=seed, dtype=torch.bfloat16) for seed in range(2))
    run = loss(targets(8), margin=1.0, distance=kind)
    right, _ = value_and_gradients(run, a.float(), b.float())
    value, gradients = value_and_gradients(run, a, b)
    torch.testing.assert_close(value.float(), right, rtol=0.03, atol=0.03)
    assert all(g.dtype == torch.bfloat16 and g.isfinite().all() for g in gradients)


def test_strided_and_expanded_embeddings(loss, unit, targets):
    run = loss(targets(6), margin=1.0)
    a, b = unit(6), unit(6, seed=1)
    torch.testing.assert_close(run(a, torch.cat([b, b], dim=1)[:, :6]), run(a, b))
    one = a[:1].expand(6, -1)
    torch.testing.assert_close(run(one, b), run(one.contiguous(), b))


@pytest.mark.parametrize("broken", [math.nan, math.inf, 1e30])
def test_what_is_no_number_is_not_hidden_by_mining(loss, unit, targets, broken):
    """Training stops at a loss that is no number; a loss of 0 would let it go on for ever."""
    a, b = unit(6, dtype=torch.float32), unit(6, seed=1, dtype=torch.float32)
    value = loss(targets(6))(a * broken, b * broken)
    assert not value.isfinite()


# ---- Options


def test_an_unknown_miner_or_distance(make):
    with pytest.raises(PluginError, match=r"loss.miner: no miner 'hrad'; did you mean 'hard'"):
        make(Triplet, miner="hrad")
    with pytest.raises(RecipeError, match=r"distance: found 'cosin'; Input should be 'euclidean'"):
        make(Triplet, distance="cosin")


def test_a_miner_has_options_of_its_own(make):
    assert make(Triplet, miner={"name": "hardest_k", "k": 2}).miner.options.k == 2
    with pytest.raises(RecipeError, match=r"loss.miner: kk: no such key; did you mean 'k'"):
        make(Triplet, miner={"name": "hardest_k", "kk": 2})
    with pytest.raises(RecipeError, match=r"loss: miner.name: is missing"):
        make(Triplet, miner={"k": 2})


def test_of_one_column_rows_are_no_pairs(make, unit):
    one = {"a": unit(3)}, Targets({"a": torch.tensor([0, 0, 1])})
    with pytest.raises(RecipeError, match="of one column, rows are no pairs; found 'row'"):
        make(Triplet, positives="row")(*one)


@pytest.mark.parametrize(
    "options",
    [
        {"distance": "cosine"},
        {"soft": True, "average": "nonzero"},
        {"miner": "all"},
        {"miner": {"name": "all", "negatives": "semi_hard"}, "margin": 5.0},
        {"miner": "all", "soft": True, "distance": "euclidean"},
        {"miner": "all", "average": "nonzero", "distance": "euclidean"},
        {"miner": "semi_hard", "distance": "cosine", "margin": 1.0},
        {"miner": "semi_hard", "positives": "all", "margin": 2.0},
        {"miner": {"name": "hardest_k", "k": 3}, "positives": "hardest"},
    ],
)
def test_conformance(options):
    check_loss(Triplet, options)
