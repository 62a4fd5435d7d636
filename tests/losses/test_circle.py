from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from msiam.losses import tiles
from msiam.losses.base import Targets
from msiam.losses.circle import Circle
from msiam.registry.conformance import check_loss

GROUPS = [0, 1, 2, 0, 1, 5, 0]
SAME = [True, False, True, True, False, True, True]


def anchors(targets: Targets, pool: bool, *columns):
    """Of each side a list of its items, each as (similarities to positives, to negatives)."""
    names = "ab"[: len(columns)]
    items = [
        (c, row, v)
        for c, column in zip(names, columns, strict=True)
        for row, v in enumerate(column)
    ]

    def positive(one, other):
        if one[0] != other[0] and one[1] == other[1] and targets.same is not None:
            return bool(targets.same[one[1]])
        return bool(targets.groups[one[0]][one[1]] == targets.groups[other[0]][other[1]])

    def pairs(item, column):
        among = [o for o in items if o is not item and (column is None or o[0] != column)]
        return [
            [item[2] @ o[2] for o in among if positive(item, o) is kind] for kind in (True, False)
        ]

    if pool or len(columns) == 1:
        return [[pairs(item, None) for item in items]]
    return [[pairs(item, c) for item in items if item[0] == c] for c in names]


def reference(targets: Targets, pool: bool = False, scale: float = 80.0, margin: float = 0.4):
    """log(1 + the product of the two sums), an anchor at a time; weights have no gradient."""

    def cost(*columns):
        total = sum((column * 0).sum() for column in columns)
        sides = anchors(targets, pool, *columns)
        for side in sides:
            found = [(together, apart) for together, apart in side if together]
            for together, apart in found:
                total_p = total_n = 0
                for s in together:
                    weight = (1 + margin - s.detach()).clamp(min=0)
                    total_p = total_p + (-scale * weight * (s - 1 + margin)).exp()
                for s in apart:
                    weight = (s.detach() + margin).clamp(min=0)
                    total_n = total_n + (scale * weight * (s - margin)).exp()
                total = total + (1 + total_p * total_n).log() / len(found) / len(sides)
        return total

    return cost


@pytest.fixture(scope="module")
def loss(make):
    """The loss as a function of one matrix or of two."""

    def loss(targets, **options):
        module = make(Circle, **options)
        return lambda *columns: module(dict(zip("ab", columns, strict=False)), targets)

    return loss


def test_it_keeps_the_contract_of_losses():
    check_loss(Circle)
    check_loss(Circle, {"pool": True, "margin": 0.25, "scale": 256.0})


def test_by_hand(loss):
    one = Targets({"a": torch.tensor([0, 0, 1])})
    items = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    # The first two are 0.6 alike, and 0 and 0.8 like the third, which has no positive.
    pull = -2 * (1.25 - 0.6) * (0.6 - 0.75)
    pushes = [2 * (s + 0.25) * (s - 0.25) for s in (0.0, 0.8)]
    costs = [math.log(1 + math.exp(pull + push)) for push in pushes]
    value = loss(one, scale=2.0, margin=0.25)(items)
    assert value.item() == pytest.approx(sum(costs) / 2, rel=1e-5)


@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize("tile", [1, 3, 20, 1 << 22])
@pytest.mark.parametrize(
    ("groups", "same"), [(None, None), (GROUPS, None), (None, SAME), (GROUPS, SAME)]
)
def test_two_columns_are_the_reference(
    loss, agree, unit, targets, monkeypatch, groups, same, tile, pool
):
    monkeypatch.setattr(tiles, "TILE", tile)  # 20: blocks of 2, 2, 2 and 1 of the 7 rows
    given = targets(7, groups, same)
    run = loss(given, pool=pool, scale=8.0)
    agree(run, reference(given, pool, 8.0), unit(7), unit(7, seed=1))


@pytest.mark.parametrize("tile", [1, 20, 1 << 22])
@pytest.mark.parametrize("groups", [None, GROUPS, [0] * 7])
@pytest.mark.parametrize("same", [None, SAME])  # labels are about two columns, and say nothing
def test_one_column_is_the_reference(loss, agree, unit, monkeypatch, groups, same, tile):
    monkeypatch.setattr(tiles, "TILE", tile)
    groups = torch.arange(7) if groups is None else torch.tensor(groups)
    given = Targets({"a": groups}, None if same is None else torch.tensor(same))
    agree(loss(given, scale=8.0), reference(given, scale=8.0), unit(7))


@given(st.data(), st.integers(1, 2), st.booleans())
def test_whatever_the_batch(loss, agree, any_batch, data, columns, pool):
    with any_batch(data, columns) as (given, vectors):
        agree(
            loss(given, pool=pool, scale=8.0),
            reference(given, pool, 8.0),
            *vectors,
            dtype=torch.float64,
        )


@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize("same", [None, SAME])
def test_columns_of_one_tower_share_their_items(loss, agree, unit, targets, pool, same):
    """The embeddings of the step's distinct items, of which several stand in both columns."""
    given = targets(7, GROUPS, same)
    left, right = torch.tensor([0, 1, 2, 0, 4, 3, 0]), torch.tensor([1, 4, 2, 1, 1, 2, 0])

    def shared(cost):
        return lambda items: cost(items[left], items[right])

    agree(shared(loss(given, pool=pool, scale=8.0)), shared(reference(given, pool, 8.0)), unit(5))


@pytest.mark.parametrize("pool", [False, True])
def test_classes_that_the_columns_hold_unequally_often(loss, agree, unit, pool):
    """Items with class labels on both sides, and no row that is a pair."""
    given = Targets({"a": torch.tensor([0, 0, 0, 1, 4, 0]), "b": torch.tensor([1, 0, 2, 2, 1, 3])})
    agree(loss(given, pool=pool, scale=8.0), reference(given, pool, 8.0), unit(6), unit(6, seed=1))


@pytest.mark.parametrize("pool", [False, True])
def test_a_labels_word_goes_before_what_groups_say(loss, agree, unit, pool):
    """Rows 0 and 1 are labelled otherwise than pairs of other rows let one think."""
    groups = {"a": torch.tensor([0, 1, 2, 0]), "b": torch.tensor([0, 3, 2, 0])}
    given = Targets(groups, torch.tensor([False, True, True, True]))
    agree(loss(given, pool=pool, scale=8.0), reference(given, pool, 8.0), unit(4), unit(4, seed=1))


@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize("options", [{}, {"margin": 0.25, "scale": 256.0}, {"scale": 1e-2}])
def test_scales_of_the_paper(loss, unit, targets, value_and_gradients, options, pool):
    """Exponents reach some hundreds there, of which float32 keeps four digits behind the point.

    In float64 this is what gradcheck is elsewhere: the gradient takes the weights as given, so that
    it is not the slope of the value.
    """
    given = targets(7, GROUPS, SAME)
    run, right_run = loss(given, pool=pool, **options), reference(given, pool, **options)
    right, slopes = value_and_gradients(right_run, unit(7), unit(7, seed=1))
    for dtype, digits in ((torch.float64, 1e-9), (torch.float32, 1e-4)):
        a, b = unit(7, dtype=dtype), unit(7, seed=1, dtype=dtype)
        value, gradients = value_and_gradients(run, a, b)
        torch.testing.assert_close(value.double(), right, rtol=digits, atol=digits)
        for gradient, slope in zip(gradients, slopes, strict=True):
            most = max(slope.abs().max().item(), 1)
            torch.testing.assert_close(gradient.double(), slope, rtol=0, atol=digits * most)


@pytest.mark.parametrize("scale", [80.0, 1e4])
def test_no_scale_overflows(loss, unit, targets, value_and_gradients, scale):
    a, b = (3 * unit(7, seed=seed, dtype=torch.float32) for seed in range(2))
    value, gradients = value_and_gradients(loss(targets(7, GROUPS), scale=scale), a, b)
    assert value.isfinite()
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_pairs_that_are_where_they_should_be_have_no_weight(loss, value_and_gradients):
    """Positives beyond 1 + margin and negatives below −margin, as long embeddings can be."""
    one = Targets({"a": torch.tensor([0, 0, 1])})
    items = torch.tensor([[2.0, 0.0], [2.0, 0.0], [-2.0, 0.0]])
    value, gradients = value_and_gradients(loss(one), items)
    assert value.item() == pytest.approx(math.log(2))
    assert not gradients[0].any()


# ---- Batches in which there is nothing to learn


@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize(
    ("rows", "groups", "same"),
    [
        (4, None, [False] * 4),  # no positive
        (4, [0] * 4, None),  # no negative
        (1, None, None),
        (1, None, [False]),
    ],
)
def test_one_kind_of_pairs_alone_costs_nothing(
    loss, unit, targets, value_and_gradients, rows, groups, same, pool
):
    run = loss(targets(rows, groups, same), pool=pool)
    value, gradients = value_and_gradients(run, unit(rows), unit(rows, seed=1))
    assert value == 0
    assert not any(gradient.any() for gradient in gradients)


def test_an_only_item_costs_nothing(loss, unit, value_and_gradients):
    run = loss(Targets({"a": torch.zeros(1, dtype=torch.long)}))
    value, gradients = value_and_gradients(run, unit(1))
    assert value == 0
    assert not gradients[0].any()


@pytest.mark.parametrize("pool", [False, True])
def test_embeddings_that_tie(loss, agree, unit, targets, pool):
    given = targets(7, GROUPS)
    one = unit(1).expand(7, -1)
    agree(loss(given, pool=pool, scale=8.0), reference(given, pool, 8.0), one, one)


# ---- Kinds of numbers


@pytest.mark.parametrize("pool", [False, True])
def test_bf16_is_computed_in_float32(loss, unit, targets, value_and_gradients, pool):
    a, b = (unit(7, seed=seed, dtype=torch.bfloat16) for seed in range(2))
    run = loss(targets(7, GROUPS, SAME), pool=pool)
    right, slopes = value_and_gradients(run, a.float(), b.float())
    value, gradients = value_and_gradients(run, a, b)
    assert value == right
    for gradient, slope in zip(gradients, slopes, strict=True):
        assert torch.equal(gradient, slope.bfloat16())


@pytest.mark.parametrize("pool", [False, True])
def test_autocast_changes_nothing(loss, unit, targets, value_and_gradients, pool):
    vectors = [unit(7, seed=seed, dtype=torch.float32) for seed in range(2)]
    run = loss(targets(7, GROUPS, SAME), pool=pool)
    right, slopes = value_and_gradients(run, *vectors)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value, gradients = value_and_gradients(run, *vectors)
    assert value == right
    assert all(torch.equal(g, s) for g, s in zip(gradients, slopes, strict=True))


def test_strided_and_expanded_embeddings(loss, unit, targets, value_and_gradients):
    run = loss(targets(6, GROUPS[:6]))
    a, b = unit(6), unit(6, seed=1)
    strided = torch.cat([b, b], dim=1)[:, :6]
    torch.testing.assert_close(value_and_gradients(run, a, strided), value_and_gradients(run, a, b))
    one = a[:1].expand(6, -1)
    torch.testing.assert_close(run(one, b), run(one.contiguous(), b))


@pytest.mark.parametrize("broken", [math.nan, math.inf])
@pytest.mark.parametrize("groups", [None, GROUPS])
def test_what_is_no_number_stays_no_number(loss, unit, targets, broken, groups):
    a = unit(7)
    a[2, 0] = broken
    assert not loss(targets(7, groups))(a, unit(7, seed=1)).isfinite()
    assert not loss(targets(7, groups), pool=True)(a, unit(7, seed=1)).isfinite()
