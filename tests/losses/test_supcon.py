from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from msiam.losses import tiles
from msiam.losses.base import Targets
from msiam.losses.infonce import InfoNCE
from msiam.losses.supcon import SupCon
from msiam.registry.conformance import check_loss

GROUPS = [0, 1, 2, 0, 1, 5, 0]
SAME = [True, False, True, True, False, True, True]


def anchors(targets: Targets, pool: bool, *columns):
    """Of each side a list of its items, each as (similarities to positives, to negatives)."""
    names = "abc"[: len(columns)]
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

    if pool or len(columns) != 2:
        return [[pairs(item, None) for item in items]]
    return [[pairs(item, c) for item in items if item[0] == c] for c in names]


def reference(targets: Targets, pool: bool = False, temperature: float = 0.1):
    """−mean of log softmax over an anchor's positives, an anchor at a time."""

    def cost(*columns):
        total = sum((column * 0).sum() for column in columns)
        sides = anchors(targets, pool, *columns)
        for side in sides:
            found = [(together, apart) for together, apart in side if together]
            for together, apart in found:
                everything = (torch.stack(together + apart) / temperature).logsumexp(0)
                costs = [everything - s / temperature for s in together]
                total = total + sum(costs) / len(costs) / len(found) / len(sides)
        return total

    return cost


@pytest.fixture(scope="module")
def loss(make):
    """The loss as a function of one matrix or of two."""

    def loss(targets, **options):
        module = make(SupCon, **options)
        return lambda *columns: module(dict(zip("abc", columns, strict=False)), targets)

    return loss


def test_it_keeps_the_contract_of_losses():
    check_loss(SupCon)
    check_loss(SupCon, {"pool": True, "temperature": 0.5})


def test_by_hand(loss):
    one = Targets({"a": torch.tensor([0, 0, 1])})
    items = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    # The third has no positive. The first two are 0.6 alike, and 0 and 0.8 like the third.
    costs = [math.log(1 + math.exp((s - 0.6) / 0.5)) for s in (0.0, 0.8)]
    assert loss(one, temperature=0.5)(items).item() == pytest.approx(sum(costs) / 2, rel=1e-5)


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
    run = loss(given, pool=pool)
    agree(run, reference(given, pool), unit(7), unit(7, seed=1))


@pytest.mark.parametrize("tile", [1, 20, 1 << 22])
@pytest.mark.parametrize("groups", [None, GROUPS, [0] * 7])
@pytest.mark.parametrize("same", [None, SAME])  # labels are about two columns, and say nothing
def test_one_column_is_the_reference(loss, agree, unit, monkeypatch, groups, same, tile):
    monkeypatch.setattr(tiles, "TILE", tile)
    groups = torch.arange(7) if groups is None else torch.tensor(groups)
    given = Targets({"a": groups}, None if same is None else torch.tensor(same))
    agree(loss(given), reference(given), unit(7))


@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize("tile", [20, 1 << 22])
def test_more_columns_are_pooled(loss, agree, unit, monkeypatch, tile, pool):
    monkeypatch.setattr(tiles, "TILE", tile)
    groups = torch.tensor(GROUPS)
    given = Targets({"a": groups, "b": groups, "c": groups})
    agree(loss(given, pool=pool), reference(given), unit(7), unit(7, seed=1), unit(7, seed=2))


def test_rows_kept_from_before_ask_nothing_in_more_columns_either(loss, unit):
    """The anchors' costs alone: the loss of all rows is a mean over all anchors."""
    groups = torch.tensor(GROUPS)
    columns = [unit(7, seed=seed) for seed in range(3)]
    some = torch.tensor([True, True, True, False, False, False, False])
    by_column = dict.fromkeys("abc", groups)
    costs = [loss(Targets(by_column, anchors=a))(*columns) for a in (some, ~some)]
    both = loss(Targets(by_column))(*columns)
    assert (3 * costs[0] + 4 * costs[1]).item() == pytest.approx(7 * both.item(), rel=1e-5)


@given(st.data(), st.integers(1, 2), st.booleans())
def test_whatever_the_batch(loss, agree, any_batch, data, columns, pool):
    with any_batch(data, columns) as (given, vectors):
        agree(loss(given, pool=pool), reference(given, pool), *vectors, dtype=torch.float64)


@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize("same", [None, SAME])
def test_columns_of_one_tower_share_their_items(loss, agree, unit, targets, pool, same):
    """The embeddings of the step's distinct items, of which several stand in both columns."""
    given = targets(7, GROUPS, same)
    left, right = torch.tensor([0, 1, 2, 0, 4, 3, 0]), torch.tensor([1, 4, 2, 1, 1, 2, 0])

    def shared(cost):
        return lambda items: cost(items[left], items[right])

    agree(shared(loss(given, pool=pool)), shared(reference(given, pool)), unit(5))


@pytest.mark.parametrize("pool", [False, True])
def test_classes_that_the_columns_hold_unequally_often(loss, agree, unit, pool):
    """Items with class labels on both sides, and no row that is a pair."""
    given = Targets({"a": torch.tensor([0, 0, 0, 1, 4, 0]), "b": torch.tensor([1, 0, 2, 2, 1, 3])})
    agree(loss(given, pool=pool), reference(given, pool), unit(6), unit(6, seed=1))


@pytest.mark.parametrize("pool", [False, True])
def test_a_labels_word_goes_before_what_groups_say(loss, agree, unit, pool):
    """Rows 0 and 1 are labelled otherwise than pairs of other rows let one think."""
    groups = {"a": torch.tensor([0, 1, 2, 0]), "b": torch.tensor([0, 3, 2, 0])}
    given = Targets(groups, torch.tensor([False, True, True, True]))
    agree(loss(given, pool=pool), reference(given, pool), unit(4), unit(4, seed=1))


def test_with_a_group_a_row_it_is_infonce(loss, make, unit, targets, value_and_gradients):
    infonce = make(InfoNCE, temperature=0.1, learn_temperature=False)
    a, b = unit(7), unit(7, seed=1)
    found = value_and_gradients(loss(targets(7)), a, b)
    right = value_and_gradients(lambda a, b: infonce({"a": a, "b": b}, targets(7)), a, b)
    torch.testing.assert_close(found, right, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize("temperature", [1e-3, 1e-2, 1.0, 1e2])
def test_no_temperature_overflows(loss, unit, targets, value_and_gradients, temperature, pool):
    given = targets(7, GROUPS)
    run = loss(given, temperature=temperature, pool=pool)
    right, slopes = value_and_gradients(
        reference(given, pool, temperature), unit(7), unit(7, seed=1)
    )
    for dtype, digits in ((torch.float64, 1e-6), (torch.float32, 2e-4)):
        a, b = unit(7, dtype=dtype), unit(7, seed=1, dtype=dtype)
        value, gradients = value_and_gradients(run, a, b)
        torch.testing.assert_close(value.double(), right, rtol=digits, atol=digits)
        for gradient, slope in zip(gradients, slopes, strict=True):
            most = max(slope.abs().max().item(), 1)
            torch.testing.assert_close(gradient.double(), slope, rtol=0, atol=digits * most)


@pytest.mark.parametrize("pool", [False, True])
def test_gradcheck(loss, unit, targets, pool):
    run = loss(targets(7, GROUPS, SAME), pool=pool, temperature=0.5)
    a, b = unit(7).requires_grad_(), unit(7, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(run, (a, b))


# ---- Batches in which there is nothing to learn


@pytest.mark.parametrize("pool", [False, True])
def test_without_positives_it_costs_nothing(loss, unit, targets, value_and_gradients, pool):
    run = loss(targets(4, same=[False] * 4), pool=pool)
    value, gradients = value_and_gradients(run, unit(4), unit(4, seed=1))
    assert value == 0
    assert not any(gradient.any() for gradient in gradients)


def test_an_only_item_or_pair_costs_nothing(loss, unit, targets, value_and_gradients):
    alone = loss(Targets({"a": torch.zeros(1, dtype=torch.long)}))
    for run, *vectors in (
        (alone, unit(1)),
        (loss(targets(1)), unit(1), unit(1, seed=1)),
        (loss(targets(1), pool=True), unit(1), unit(1, seed=1)),
    ):
        value, gradients = value_and_gradients(run, *vectors)
        assert value.item() == pytest.approx(0, abs=1e-6)
        assert all(gradient.abs().max() < 1e-6 for gradient in gradients)


def test_an_item_without_a_positive_is_a_candidate_and_is_not_counted(loss, unit):
    one = Targets({"a": torch.tensor([0, 0, 7])})
    items = unit(3)
    costs = [
        math.log(1 + math.exp(10 * (items[i] @ items[2] - items[0] @ items[1]).item()))
        for i in range(2)
    ]
    assert loss(one)(items).item() == pytest.approx(sum(costs) / 2)


@pytest.mark.parametrize("pool", [False, True])
def test_a_batch_of_one_class(loss, agree, unit, targets, pool):
    given = targets(5, [3] * 5)
    agree(loss(given, pool=pool), reference(given, pool), unit(5), unit(5, seed=1))


@pytest.mark.parametrize("pool", [False, True])
def test_embeddings_that_tie(loss, agree, unit, targets, pool):
    given = targets(7, GROUPS)
    one = unit(1).expand(7, -1)
    agree(loss(given, pool=pool), reference(given, pool), one, one)


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
