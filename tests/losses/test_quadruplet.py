from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from msiam.errors import RecipeError
from msiam.losses.base import Given, Targets
from msiam.losses.quadruplet import Quadruplet
from msiam.losses.triplet import Triplet
from msiam.registry.conformance import check_loss

KINDS = ["squared", "euclidean", "cosine"]
# Rows 1 and 4 have a negative that is known to match the anchor, and row 2 another one that does;
# in row 5 the two negatives belong together.
ANCHORS = [0, 1, 2, 3, 4, 5, 6]
NEGATIVES = [10, 1, 12, 13, 4, 15, 16]
OTHERS = [20, 21, 2, 23, 4, 15, 26]
SAME = [True, True, True, False, True, True, True]


def targets(same=None, groups=(ANCHORS, NEGATIVES, OTHERS)):
    anchors, negatives, others = map(torch.tensor, groups)
    numbers = dict(zip("apno", (anchors, anchors, negatives, others), strict=True))
    return Targets(numbers, None if same is None else torch.tensor(same))


APART = targets(groups=(ANCHORS, [10 + g for g in ANCHORS], [20 + g for g in ANCHORS]))


def distance(a, b, kind):
    if kind == "cosine":
        return 1 - (a @ b) / (a.norm() * b.norm())
    squared = ((a - b) ** 2).sum()
    return squared if kind == "squared" else squared.sqrt()


def reference(given, margin=0.2, second_margin=0.1, kind="squared"):
    """The two terms of the paper, a row at a time, where all of its identities differ."""

    def cost(*vectors):
        terms: tuple[list, list] = ([], [])
        for i, (a, p, n, o) in enumerate(zip(*vectors, strict=True)):
            x, y, z = (given.groups[column][i].item() for column in "ano")
            if x == y or (given.same is not None and not given.same[i]):
                continue
            near = distance(a, p, kind)
            terms[0].append((near - distance(a, n, kind) + margin).clamp(min=0))
            if len({x, y, z}) == 3:
                terms[1].append((near - distance(o, n, kind) + second_margin).clamp(min=0))
        nothing = sum((vector * 0).sum() for vector in vectors)
        return nothing + sum(sum(term) / len(term) for term in terms if term)

    return cost


@pytest.fixture(scope="module")
def loss(make):
    """The loss as a function of four matrices."""

    def loss(given=APART, **options):
        module = make(Quadruplet, **options)
        return lambda *vectors: module(dict(zip("apno", vectors, strict=True)), given)

    return loss


@pytest.fixture
def four(unit):
    return [unit(7, seed=seed) for seed in range(4)]


def test_by_hand(loss):
    anchor, positive = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    negative, other = torch.tensor([[3.0, 0.0]]), torch.tensor([[3.0, 1.0]])
    rows = torch.arange(1)
    given = Targets({"a": rows, "p": rows, "n": rows + 1, "o": rows + 2})
    # 4 − 9 + 6 for the anchor's negative; 4 − 1 + 0.5 for the two negatives.
    value = loss(given, margin=6.0, second_margin=0.5)(anchor, positive, negative, other)
    assert value.item() == pytest.approx(1 + 3.5)
    plain = loss(given, margin=6.0, second_margin=0.5, distance="euclidean")
    assert plain(anchor, positive, negative, other).item() == pytest.approx(5 + 1.5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("margins", [(0.2, 0.1), (0.01, 0.5), (3.0, 3.0)])
@pytest.mark.parametrize("given", [APART, targets(), targets(SAME)], ids=["apart", "known", "same"])
def test_it_is_the_reference_in_value_and_gradient(loss, agree, four, given, margins, kind):
    options = {"margin": margins[0], "second_margin": margins[1]}
    run = loss(given, distance=kind, **options)
    agree(run, reference(given, kind=kind, **options), *four)


@given(st.data(), st.integers(1, 8), st.integers(2, 5))
def test_whatever_the_rows(loss, agree, unit, data, rows, width):
    def of_each(what):
        return data.draw(st.lists(what, min_size=rows, max_size=rows))

    groups = [of_each(st.integers(0, 4)) for _ in range(3)]
    same = of_each(st.booleans()) if data.draw(st.booleans()) else None
    given = targets(same, groups)
    options = {"margin": 0.5, "second_margin": 0.3, "kind": data.draw(st.sampled_from(KINDS))}
    right = reference(given, **options)
    run = loss(given, distance=options.pop("kind"), **options)
    seed = data.draw(st.integers(0, 99))
    agree(run, right, *(unit(rows, width, seed + n) for n in range(4)), dtype=torch.float64)


@pytest.mark.parametrize("kind", KINDS)
def test_columns_of_one_tower_share_their_items(loss, agree, unit, of_one_tower, kind):
    run, right = loss(margin=1.0, distance=kind), reference(APART, 1.0, kind=kind)
    agree(of_one_tower(run, 4), of_one_tower(right, 4), unit(5))


def test_the_first_term_is_the_triplet_loss(loss, make, four):
    given = targets(SAME)
    three = dict(zip("apn", four, strict=False))
    triplet = make(Triplet, margin=1.0)(three, given)
    alone = Targets({**given.groups, "o": given.groups["n"]}, given.same)
    assert loss(alone, margin=1.0)(*four).item() == pytest.approx(triplet.item())


def test_a_single_row(loss, agree, unit):
    given = targets(groups=([0], [1], [2]))
    agree(loss(given), reference(given), *(unit(1, seed=seed) for seed in range(4)))


@pytest.mark.parametrize(
    ("groups", "same"),
    [(([0] * 7, [0] * 7, [0] * 7), None), ((ANCHORS, NEGATIVES, OTHERS), [False] * 7)],
)
def test_without_a_positive_or_a_negative_it_costs_nothing(
    loss, four, value_and_gradients, groups, same
):
    value, gradients = value_and_gradients(loss(targets(same, groups), margin=9.0), *four)
    assert value == 0
    assert not any(gradient.any() for gradient in gradients)


@pytest.mark.parametrize("kind", KINDS)
def test_gradcheck(loss, four, kind):
    leaves = [vector.requires_grad_() for vector in four]
    run = loss(targets(SAME), margin=2.0, second_margin=1.0, distance=kind)
    assert torch.autograd.gradcheck(run, leaves)


@pytest.mark.parametrize("kind", KINDS)
def test_where_all_are_one_the_gradient_is_finite(loss, unit, value_and_gradients, kind):
    _, gradients = value_and_gradients(loss(distance=kind), *[unit(7)] * 4)
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("kind", KINDS)
def test_in_bf16_strided_and_expanded(loss, four, value_and_gradients, kind):
    run = loss(targets(SAME), margin=1.0, distance=kind)
    rough = [vector.bfloat16() for vector in four]
    right, _ = value_and_gradients(run, *(vector.float() for vector in rough))
    value, gradients = value_and_gradients(run, *rough)
    torch.testing.assert_close(value.float(), right, rtol=0.03, atol=0.03)
    assert all(g.dtype == torch.bfloat16 and g.isfinite().all() for g in gradients)
    strided = [torch.cat([vector, vector], dim=1)[:, :6] for vector in four]
    torch.testing.assert_close(run(*strided), run(*four))
    one = four[0][:1].expand(7, -1)
    torch.testing.assert_close(run(one, *four[1:]), run(one.contiguous(), *four[1:]))


def test_what_is_no_number_stays_no_number(loss, four):
    four[3][0] = torch.nan
    assert loss()(*four).isnan()


def test_nor_does_it_look_like_nothing_where_no_row_counts(loss, four):
    four[3][0] = torch.nan
    assert loss(targets([False] * 7))(*four).isnan()


def test_it_takes_four_columns(make):
    with pytest.raises(RecipeError, match="quadruplet takes 4 columns; the recipe has 3"):
        make(Quadruplet).check("quadruplet", Given(["a", "p", "n"], {}, dim=8))


@pytest.mark.parametrize(
    "options", [{}, {"second_margin": 1.0}, {"distance": "cosine", "margin": 1.0}]
)
def test_conformance(options):
    check_loss(Quadruplet, options)
