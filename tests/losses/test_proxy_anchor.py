from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from msiam.losses import tiles
from msiam.losses.base import Targets
from msiam.losses.proxy_anchor import ProxyAnchor
from msiam.registry.conformance import check_loss

CLASSES = [1, 3, 4, 7, 20]
GROUPS = [3, 1, 3, 7, 3, 1, 4]  # of class 20 there is none


def reference(scale=32.0, margin=0.1, classes=CLASSES, groups=GROUPS):
    """The paper's two means, a proxy at a time. Items of other classes are left out."""

    def cost(*vectors):
        *columns, proxies = vectors
        items = [
            (group, x / x.norm())
            for column in columns
            for group, x in zip(groups, column, strict=True)
            if group in classes
        ]
        pulls, pushes = [], []
        for number, proxy in zip(classes, proxies, strict=True):
            p = proxy / proxy.norm()
            near = [-scale * (x @ p - margin) for group, x in items if group == number]
            far = [scale * (x @ p + margin) for group, x in items if group != number]
            zero = p.sum() * 0
            if near:
                pulls.append(torch.stack([zero, *near]).logsumexp(0))
            pushes.append(torch.stack([zero, *far]).logsumexp(0))
        nothing = sum((vector * 0).sum() for vector in vectors)
        return nothing + sum(pulls) / max(len(pulls), 1) + sum(pushes) / len(pushes)

    return cost


@pytest.fixture(scope="module")
def loss(make, learnt):
    """The loss as a function of its columns, and of the proxies as the last matrix."""

    def loss(classes=CLASSES, groups=GROUPS, **options):
        return learnt(make(ProxyAnchor, **options), classes, groups)

    return loss


def test_it_keeps_the_contract_of_losses():
    check_loss(ProxyAnchor)
    check_loss(ProxyAnchor, {"scale": 4.0, "margin": 0.0})


def test_by_hand(loss):
    items, proxies = torch.tensor([[1.0, 0.0], [0.6, 0.8]]), torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    run = loss([5, 6], [5, 6], scale=2.0, margin=0.25)
    # Cosines: 1 and 0.8 with the own proxy, 0.6 and 0 with the other.
    pull = [math.log(1 + math.exp(-2 * (s - 0.25))) for s in (1.0, 0.8)]
    push = [math.log(1 + math.exp(2 * (s + 0.25))) for s in (0.6, 0.0)]
    assert run(items, proxies).item() == pytest.approx((sum(pull) + sum(push)) / 2)


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
    options = {"scale": data.draw(st.sampled_from([0.5, 8.0, 32.0])), "margin": 0.2}
    options |= {"classes": classes, "groups": groups}
    width = data.draw(st.integers(2, 5))
    columns = [unit(len(groups), width, seed) for seed in range(data.draw(st.integers(1, 2)))]
    proxies = unit(len(classes), width, seed=9)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "TILE", data.draw(st.integers(1, 40)))
        agree(loss(**options), reference(**options), *columns, proxies, dtype=torch.float64)


def test_columns_of_one_tower_share_their_items(loss, agree, unit):
    left, right = torch.tensor([0, 1, 0, 2, 0, 1, 3]), torch.tensor([4, 1, 0, 2, 4, 1, 3])

    def shared(cost):
        return lambda items, proxies: cost(items[left], items[right], proxies)

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


def test_items_opposite_to_their_proxies_do_not_overflow(loss):
    items = torch.tensor([[-1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])
    run = loss([5, 6], [5, 5, 6], scale=1e4, margin=0.1)
    pull = [1.1e4 + math.log(2), 0.0]  # of two items at −1, and of one at 1
    push = [1e3, 1e3 + math.log(2)]  # of one item, and of two, at 0
    assert run(items, torch.eye(2)).item() == pytest.approx((sum(pull) + sum(push)) / 2)


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
    module = make(ProxyAnchor)
    module.begin(torch.tensor(CLASSES), 6)
    groups, vectors = {"a": torch.tensor(GROUPS)}, {"a": unit(7)}
    labelled = Targets(groups, torch.tensor(same))
    assert torch.equal(module(vectors, labelled), module(vectors, Targets(groups)))


def test_embeddings_that_tie_or_are_a_proxy(loss, agree, unit):
    one = unit(1)
    agree(loss(), reference(), one.expand(7, -1), unit(5, seed=9))
    agree(loss(), reference(), one.expand(7, -1), one.expand(5, -1))


# ---- Kinds of numbers


def test_bf16_is_computed_in_float32(loss, unit, value_and_gradients):
    a, proxies = unit(7, dtype=torch.bfloat16), unit(5, seed=9, dtype=torch.float32)
    right, slopes = value_and_gradients(loss(), a.float(), proxies)
    value, gradients = value_and_gradients(loss(), a, proxies)
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
    run, a, proxies = loss(), unit(7), unit(5, seed=9)
    strided = torch.cat([a, a], dim=1)[:, :6]
    assert not strided.is_contiguous()
    right = value_and_gradients(run, a, proxies)
    torch.testing.assert_close(value_and_gradients(run, strided, proxies), right)
    one = a[:1].expand(7, -1)
    torch.testing.assert_close(run(one, proxies), run(one.contiguous(), proxies))


@pytest.mark.parametrize("broken", [math.nan, math.inf])
@pytest.mark.parametrize("row", [0, 6])
def test_what_is_no_number_stays_no_number(loss, unit, broken, row):
    a = unit(7)
    a[row, 0] = broken
    assert not loss()(a, unit(5, seed=9)).isfinite()
