from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from msiam.losses import tiles
from msiam.losses.arcface import ArcFace, narrowed
from msiam.losses.base import Targets
from msiam.registry.conformance import check_loss

CLASSES = [1, 3, 4, 7, 20]
GROUPS = [3, 1, 3, 7, 3, 1, 4]  # of class 20 there is none


def reference(scale=64.0, margin=0.5, classes=CLASSES, groups=GROUPS):
    """Cross entropy of the angles, an item at a time. Items of other classes are left out."""

    def cost(*vectors):
        *columns, weights = vectors
        costs = []
        for column in columns:
            for group, x in zip(groups, column, strict=True):
                if group not in classes:
                    continue
                logits = [w @ x / (w.norm() * x.norm()) for w in weights]
                own = classes.index(group)
                angle = logits[own].clamp(-1, 1).acos()
                if angle + margin < math.pi:
                    logits[own] = (angle + margin).cos()
                else:
                    logits[own] = logits[own] - margin * math.sin(margin)
                logits = scale * torch.stack(logits)
                costs.append(logits.logsumexp(0) - logits[own])
        nothing = sum((vector * 0).sum() for vector in vectors)
        return nothing + sum(costs) / max(len(costs), 1)

    return cost


@pytest.fixture(scope="module")
def loss(make, learnt):
    """The loss as a function of its columns, and of the weights as the last matrix."""

    def loss(classes=CLASSES, groups=GROUPS, **options):
        return learnt(make(ArcFace, **options), classes, groups)

    return loss


def test_it_keeps_the_contract_of_losses():
    check_loss(ArcFace)
    check_loss(ArcFace, {"scale": 4.0, "margin": 0.0})


def test_by_hand(loss):
    items, weights = torch.tensor([[1.0, 0.0], [0.6, 0.8]]), torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    run = loss([5, 6], [5, 6], scale=2.0, margin=0.25)
    # Angles: 0 and acos 0.8 to the own class; cosines 0 and 0.6 to the other.
    costs = [
        math.log(1 + math.exp(2 * (other - math.cos(angle + 0.25))))
        for angle, other in ((0.0, 0.0), (math.acos(0.8), 0.6))
    ]
    assert run(items, weights).item() == pytest.approx(sum(costs) / 2, rel=1e-4)


@pytest.mark.parametrize("columns", [1, 2, 3])
@pytest.mark.parametrize("tile", [1, 15, 1 << 22])  # 15: of 7 items 2, 2 and 1 of the 5 classes
def test_it_is_the_reference(loss, agree, unit, monkeypatch, tile, columns):
    monkeypatch.setattr(tiles, "TILE", tile)
    vectors = [(1 + seed) * unit(7, seed=seed) for seed in range(columns)]
    agree(loss(), reference(), *vectors, 3 * unit(5, seed=9))


@given(st.data())
def test_whatever_the_shapes_and_classes(loss, agree, unit, data):
    classes = sorted(data.draw(st.sets(st.integers(0, 9), min_size=1, max_size=6)))
    groups = data.draw(st.lists(st.integers(0, 9), min_size=1, max_size=8))
    options = {"scale": data.draw(st.sampled_from([0.5, 8.0, 64.0]))}
    options |= {"margin": data.draw(st.sampled_from([0.0, 0.2, 0.5, 1.5]))}
    options |= {"classes": classes, "groups": groups}
    width = data.draw(st.integers(2, 5))
    columns = [unit(len(groups), width, seed) for seed in range(data.draw(st.integers(1, 2)))]
    weights = unit(len(classes), width, seed=9)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "TILE", data.draw(st.integers(1, 40)))
        agree(loss(**options), reference(**options), *columns, weights, dtype=torch.float64)


def test_columns_of_one_tower_share_their_items(loss, agree, unit):
    left, right = torch.tensor([0, 1, 0, 2, 0, 1, 3]), torch.tensor([4, 1, 0, 2, 4, 1, 3])

    def shared(cost):
        return lambda items, weights: cost(items[left], items[right], weights)

    agree(shared(loss()), shared(reference()), unit(5), unit(5, seed=9))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e2, 1e3])
def test_no_scale_overflows(loss, unit, value_and_gradients, scale):
    vectors = unit(7), unit(5, seed=9)
    right, slopes = value_and_gradients(reference(scale), *vectors)
    for dtype, digits in ((torch.float64, 1e-6), (torch.float32, 2e-4)):
        found, gradients = value_and_gradients(
            loss(scale=scale), *(vector.to(dtype) for vector in vectors)
        )
        torch.testing.assert_close(found.double(), right, rtol=digits, atol=digits)
        for gradient, slope in zip(gradients, slopes, strict=True):
            most = max(slope.abs().max().item(), 1)
            torch.testing.assert_close(gradient.double(), slope, rtol=0, atol=digits * most)


@pytest.mark.parametrize("tile", [15, 1 << 22])
def test_gradcheck(loss, unit, monkeypatch, tile):
    monkeypatch.setattr(tiles, "TILE", tile)
    leaves = [unit(7), 2 * unit(7, seed=1), 3 * unit(5, seed=9)]
    run = loss(scale=3.0)
    assert torch.autograd.gradcheck(run, [leaf.requires_grad_() for leaf in leaves])


# ---- Batches in which there is little or nothing to learn


@pytest.mark.parametrize(
    ("classes", "groups"),
    [
        (CLASSES, [3]),
        (CLASSES, [3, 3, 3]),
        ([3], [3, 3]),
        ([3], [4, 4]),
        (CLASSES, [0, 2, 21]),
        (CLASSES, [20, 0, 99, 1]),
    ],
    ids=["one item", "one class", "no negative", "no positive", "unknown", "some unknown"],
)
def test_batches_that_lack_something(loss, agree, unit, classes, groups):
    vectors = unit(len(groups)), unit(len(classes), seed=9)
    agree(loss(classes, groups), reference(classes=classes, groups=groups), *vectors)


def test_of_no_item_it_costs_nothing(loss, unit, value_and_gradients):
    for groups, rows in (([], 0), ([0, 2], 2)):
        value, gradients = value_and_gradients(
            loss(groups=groups), torch.ones(rows, 6), unit(5, seed=9)
        )
        assert value == 0
        assert not any(gradient.any() for gradient in gradients)


@pytest.mark.parametrize("same", [[True] * 7, [False] * 7])
def test_labels_of_pairs_mean_nothing(make, unit, same):
    module = make(ArcFace)
    module.begin(torch.tensor(CLASSES), 6)
    groups, vectors = {"a": torch.tensor(GROUPS)}, {"a": unit(7)}
    labelled = Targets(groups, torch.tensor(same))
    assert torch.equal(module(vectors, labelled), module(vectors, Targets(groups)))


def test_embeddings_that_tie(loss, agree, unit):
    agree(loss(), reference(), unit(1).expand(7, -1), unit(5, seed=9))


@pytest.mark.parametrize("sign", [1, -1])
def test_where_all_are_one_class_vector_or_its_opposite_gradients_are_finite(
    loss, unit, value_and_gradients, sign
):
    for dtype in (torch.float64, torch.float32):
        one = unit(1, dtype=dtype)
        run = loss()
        value, gradients = value_and_gradients(run, sign * one.expand(7, -1), one.expand(5, -1))
        own = math.cos(0.5) if sign > 0 else -1 - 0.5 * math.sin(0.5)
        right = math.log(math.exp(64 * own) + 4 * math.exp(64 * sign)) - 64 * own
        # Of an angle of 0, float32 knows the sine to the root of its digits.
        assert value.item() == pytest.approx(right, abs=0.02)
        assert all(gradient.isfinite().all() for gradient in gradients)


def test_beyond_half_a_turn_it_still_pays_to_come_nearer():
    angles = torch.linspace(0.001, math.pi - 0.001, 999, dtype=torch.float64)
    found, slope = narrowed(angles.cos(), 0.5)
    assert (found.diff() < 0).all()
    assert (slope > 0).all()
    near = angles + 0.5 < math.pi
    torch.testing.assert_close(found[near], (angles + 0.5).cos()[near])


def test_without_a_margin_it_is_a_softmax_over_cosines(loss, unit):
    a, weights = unit(7), 3 * unit(5, seed=9)
    logits = 64 * a @ weights.T / 3
    labels = torch.tensor([CLASSES.index(group) for group in GROUPS])
    right = torch.nn.functional.cross_entropy(logits, labels)
    torch.testing.assert_close(loss(margin=0.0)(a, weights), right)


# ---- Kinds of numbers


def test_bf16_is_computed_in_float32(loss, unit, value_and_gradients):
    a, weights = unit(7, dtype=torch.bfloat16), unit(5, seed=9, dtype=torch.float32)
    right, slopes = value_and_gradients(loss(), a.float(), weights)
    value, gradients = value_and_gradients(loss(), a, weights)
    assert value == right
    assert torch.equal(gradients[0], slopes[0].bfloat16())
    assert torch.equal(gradients[1], slopes[1])


def test_autocast_changes_nothing(loss, unit, value_and_gradients):
    vectors = unit(7, dtype=torch.float32), unit(5, seed=9, dtype=torch.float32)
    right, slopes = value_and_gradients(loss(), *vectors)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value, gradients = value_and_gradients(loss(), *vectors)
    assert value == right
    assert all(torch.equal(g, s) for g, s in zip(gradients, slopes, strict=True))


def test_strided_and_expanded_embeddings(loss, unit, value_and_gradients):
    run, a, weights = loss(), unit(7), unit(5, seed=9)
    strided = torch.cat([a, a], dim=1)[:, :6]
    assert not strided.is_contiguous()
    right = value_and_gradients(run, a, weights)
    torch.testing.assert_close(value_and_gradients(run, strided, weights), right)
    one = a[:1].expand(7, -1)
    torch.testing.assert_close(run(one, weights), run(one.contiguous(), weights))


@pytest.mark.parametrize("broken", [math.nan, math.inf])
@pytest.mark.parametrize("row", [0, 6])
def test_what_is_no_number_stays_no_number(loss, unit, broken, row):
    a = unit(7)
    a[row, 0] = broken
    assert not loss()(a, unit(5, seed=9)).isfinite()
