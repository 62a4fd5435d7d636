from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from msiam.losses import tiles
from msiam.losses.base import Targets
from msiam.losses.batch_contrastive import BatchContrastive
from msiam.losses.contrastive import Contrastive
from msiam.registry.conformance import check_loss

GROUPS = [0, 1, 2, 0, 1, 5, 0]
SAME = [True, False, True, True, False, True, True]
ANCHORS = [True, False, True, True, True, False, True]


def reference(targets: Targets, margin=1.0, halves=True, balanced=True):
    """½D² or ½·max(m − D, 0)², a pair at a time."""

    def cost(*sides):
        columns = ["a", "b"][: len(sides)]
        mine, theirs = (targets.groups[column] for column in (columns[0], columns[-1]))
        size = len(sides[0])
        asks = [True] * size if targets.anchors is None else targets.anchors.tolist()
        kinds = {True: [], False: []}
        for i in range(size):
            for j in range(size):
                if len(sides) == 1 and (i == j or not asks[i]):
                    continue
                if not asks[i] and not asks[j]:
                    continue
                same = bool(mine[i] == theirs[j])
                if len(sides) == 2 and i == j and targets.same is not None:
                    same = bool(targets.same[i])
                squared = (sides[0][i] - sides[-1][j]).pow(2).sum()
                if same:
                    kinds[same].append(squared)
                elif squared > 0:
                    kinds[same].append((margin - squared.sqrt()).clamp(min=0) ** 2)
                else:  # at distance 0 no gradient
                    kinds[same].append(squared * 0 + margin**2)
        lists = list(kinds.values()) if balanced else [kinds[True] + kinds[False]]
        means = [torch.stack(each).mean() for each in lists if each]
        total = sum(means) / len(means) if means else sum(side.sum() * 0 for side in sides)
        return total * (0.5 if halves else 1)

    return cost


@pytest.fixture(scope="module")
def loss(make):
    """The loss as a function of one matrix or of two."""

    def loss(targets, **options):
        module = make(BatchContrastive, **options)
        return lambda *sides: module(dict(zip("ab", sides, strict=False)), targets)

    return loss


def test_it_keeps_the_contract_of_losses():
    check_loss(BatchContrastive)
    check_loss(BatchContrastive, {"balanced": False, "margin": 1.5})


def test_by_hand(loss, targets):
    points = torch.tensor([[0.0], [0.5], [0.75]])
    # The pair of group 0 at ½; the two that differ at ¾ and ¼, short of the margin by ¼ and ¾.
    run = loss(targets(3, [0, 0, 1]), balanced=False)
    assert run(points).item() == pytest.approx((0.25 + 0.0625 + 0.5625) / 3 / 2)
    run = loss(targets(3, [0, 0, 1]), halves=False)
    assert run(points).item() == pytest.approx((0.25 + (0.0625 + 0.5625) / 2) / 2)


@pytest.mark.parametrize("tile", [1, 20, 1 << 22])
@pytest.mark.parametrize("columns", [1, 2])
@pytest.mark.parametrize("anchors", [None, ANCHORS, [False] * 7])
@pytest.mark.parametrize(("groups", "same"), [(None, None), (GROUPS, None), (GROUPS, SAME)])
@pytest.mark.parametrize("options", [{}, {"balanced": False, "margin": 1.5, "halves": False}])
def test_it_is_the_reference_in_value_and_gradient(
    loss, agree, unit, targets, monkeypatch, tile, columns, anchors, groups, same, options
):
    monkeypatch.setattr(tiles, "TILE", tile)
    about = targets(7, groups, same)
    if anchors is not None:
        about = dataclasses.replace(about, anchors=torch.tensor(anchors))
    sides = [unit(7), unit(7, seed=1)][:columns]
    agree(loss(about, **options), reference(about, **options), *sides)


@pytest.mark.parametrize("columns", [1, 2])
@given(st.data())
def test_whatever_the_batch(loss, agree, any_batch, columns, data):
    options = {"margin": data.draw(st.floats(0.1, 2)), "balanced": data.draw(st.booleans())}
    with any_batch(data, columns) as (about, vectors):
        agree(loss(about, **options), reference(about, **options), *vectors, dtype=torch.float64)


@pytest.mark.parametrize("same", [None, SAME])
def test_columns_of_one_tower_share_their_items(loss, agree, unit, targets, of_one_tower, same):
    about = targets(7, GROUPS, same)
    agree(of_one_tower(loss(about), 2), of_one_tower(reference(about), 2), unit(5))


@pytest.mark.parametrize("columns", [1, 2])
def test_no_rows_cost_nothing(loss, targets, value_and_gradients, columns):
    value, gradients = value_and_gradients(loss(targets(0)), *[torch.zeros(0, 6)] * columns)
    assert value == 0
    assert all(gradient.shape == (0, 6) for gradient in gradients)


@pytest.mark.parametrize(
    ("rows", "groups", "same"),
    [(1, None, None), (1, None, [False]), (4, [0] * 4, None), (4, None, [False] * 4)],
)
@pytest.mark.parametrize("columns", [1, 2])
def test_batches_of_one_kind_or_of_one_row(loss, agree, unit, targets, columns, rows, groups, same):
    about = targets(rows, groups, same)
    agree(loss(about), reference(about), *[unit(rows), unit(rows, seed=1)][:columns])


def test_embeddings_that_tie_have_no_gradient_from_their_negatives(loss, agree, unit, targets):
    about = targets(7, GROUPS)
    agree(loss(about), reference(about), torch.cat([unit(3), unit(3), unit(1)]))


def test_near_distances_are_as_exact_as_others(loss, unit, targets, value_and_gradients):
    """In float32, |a|² + |b|² − 2ab would be 0 for points 10⁻⁴ apart."""
    points = torch.cat([unit(4), unit(4) + 1e-4 * unit(4, seed=1)]).float()
    run, right = loss(targets(8)), reference(targets(8))
    value, (slope,) = value_and_gradients(run, points)
    expected, (gradient,) = value_and_gradients(right, points.double())
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(slope.double(), gradient, rtol=0, atol=1e-3 * gradient.abs().max())


def test_gradcheck(loss, unit, targets):
    sides = unit(5).requires_grad_(), unit(5, seed=1).requires_grad_()
    run = loss(targets(5, GROUPS[:5], SAME[:5]), margin=1.5)
    assert torch.autograd.gradcheck(run, sides)
    assert torch.autograd.gradcheck(run, sides[:1])


def test_of_one_labelled_row_it_is_contrastive(loss, make, unit, targets):
    for same in (True, False):
        about = targets(1, same=[same])
        vectors = {"a": unit(1), "b": unit(1, seed=1)}
        assert loss(about)(*vectors.values()) == pytest.approx(
            make(Contrastive)(vectors, about).item(), rel=1e-6
        )


def test_in_bf16_it_is_what_float32_gives_but_for_the_digits(
    loss, unit, targets, value_and_gradients
):
    a, b = unit(7, dtype=torch.bfloat16), unit(7, seed=1, dtype=torch.bfloat16)
    run = loss(targets(7, GROUPS, SAME))
    right, slopes = value_and_gradients(run, a.float(), b.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value, gradients = value_and_gradients(run, a, b)
    assert value == right
    for gradient, slope in zip(gradients, slopes, strict=True):
        assert torch.equal(gradient, slope.bfloat16())


def test_strided_and_expanded_embeddings(loss, unit, targets, value_and_gradients):
    run = loss(targets(6))
    a, b = unit(6), unit(6, seed=1)
    strided = torch.cat([b, b], dim=1)[:, :6]
    torch.testing.assert_close(value_and_gradients(run, a, strided), value_and_gradients(run, a, b))
    one = a[:1].expand(6, -1)
    torch.testing.assert_close(run(one, b), run(one.contiguous(), b))


def test_what_is_no_number_stays_no_number(loss, unit, targets):
    a = unit(7)
    a[2, 0] = math.nan
    assert loss(targets(7))(a).isnan()
    assert loss(targets(7))(a, unit(7, seed=1)).isnan()
