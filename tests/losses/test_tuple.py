from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from memory import growth

from msiam.errors import RecipeError
from msiam.losses import tiles
from msiam.losses.base import Given, Targets
from msiam.losses.tuple import NTuple
from msiam.registry.conformance import check_loss

# Rows 0 and 3 are of one group; a negative of row 1 is known to match it, and all of row 4.
ANCHORS = [0, 1, 2, 0, 4, 5, 6]
NEGATIVES = [[10, 1, 12, 13, 4, 15, 0], [20, 21, 22, 23, 4, 25, 26], [30, 31, 32, 33, 4, 35, 36]]
SAME = [True, True, False, True, True, True, False]


def targets(count, same=None, anchors=ANCHORS, negatives=NEGATIVES):
    groups = [anchors, anchors, *negatives[:count]]
    numbers = dict(zip("abcde", map(torch.tensor, groups), strict=False))
    return Targets(numbers, None if same is None else torch.tensor(same))


def reference(given, temperature=0.05, in_batch=False):
    """The positive among its own negatives, or among all of the batch, a row at a time."""

    def cost(anchor, positive, *negatives):
        mine, *others = given.groups.values()
        total, count = sum((v * 0).sum() for v in (anchor, positive, *negatives)), 0
        for i in range(len(anchor)):
            own = anchor[i] @ positive[i] / temperature
            rest = [
                anchor[i] @ vectors[j] / temperature
                for vectors, groups in zip((positive, *negatives), others, strict=True)
                for j in range(len(anchor))
                if groups[j] != mine[i]
                and (in_batch or (j == i and vectors is not positive))
                and not (j == i and vectors is positive)
            ]
            if rest and (given.same is None or given.same[i]):
                total = total + torch.stack([own, *rest]).logsumexp(0) - own
                count += 1
        return total / max(count, 1)

    return cost


@pytest.fixture(scope="module")
def loss(make):
    """The loss as a function of three matrices or more."""

    def loss(given, **options):
        module = make(NTuple, **options)
        return lambda *vectors: module(dict(zip("abcde", vectors, strict=False)), given)

    return loss


@pytest.fixture
def vectors(unit):
    return lambda count, **how: [unit(7, seed=seed, **how) for seed in range(2 + count)]


def test_by_hand(loss):
    anchor, positive = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.6, 0.8]])
    negative, other = torch.tensor([[0.8, 0.6]]), torch.tensor([[-1.0, 0.0]])
    given = targets(2, None, [0], [[1], [2]])
    value = loss(given, temperature=0.5)(anchor, positive, negative, other)
    assert value.item() == pytest.approx(math.log(1 + math.exp(0.4) + math.exp(-3.2)))


@pytest.mark.parametrize("in_batch", [False, True])
@pytest.mark.parametrize("same", [None, SAME])
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("temperature", [0.05, 1.0])
def test_it_is_the_reference_in_value_and_gradient(
    loss, agree, vectors, count, same, in_batch, temperature
):
    given, options = targets(count, same), {"in_batch": in_batch, "temperature": temperature}
    agree(loss(given, **options), reference(given, **options), *vectors(count))


@given(st.data(), st.integers(1, 8), st.integers(2, 5), st.booleans())
def test_whatever_the_rows(loss, agree, unit, data, rows, width, in_batch):
    def of_each(what):
        return data.draw(st.lists(what, min_size=rows, max_size=rows))

    count, seed = data.draw(st.integers(1, 3)), data.draw(st.integers(0, 99))
    negatives = [of_each(st.integers(0, 4)) for _ in range(count)]
    same = of_each(st.booleans()) if data.draw(st.booleans()) else None
    batch = targets(count, same, of_each(st.integers(0, 4)), negatives)
    vectors = [unit(rows, width, seed + column) for column in range(2 + count)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "TILE", data.draw(st.integers(1, 80)))
        agree(
            loss(batch, in_batch=in_batch),
            reference(batch, in_batch=in_batch),
            *vectors,
            dtype=torch.float64,
        )


@pytest.mark.parametrize("in_batch", [False, True])
def test_columns_of_one_tower_share_their_items(loss, agree, unit, of_one_tower, in_batch):
    batch = targets(2, SAME)
    run, right = loss(batch, in_batch=in_batch), reference(batch, in_batch=in_batch)
    agree(of_one_tower(run, 4), of_one_tower(right, 4), unit(5))


@pytest.mark.parametrize("in_batch", [False, True])
def test_embeddings_that_tie_or_are_expanded(loss, agree, unit, in_batch):
    batch, one = targets(2, SAME), unit(1).expand(7, -1)
    run, right = loss(batch, in_batch=in_batch), reference(batch, in_batch=in_batch)
    agree(run, right, one, one, one, unit(7, seed=1))
    torch.testing.assert_close(run(one, one, one, one), run(*[one.contiguous()] * 4))


@pytest.mark.parametrize("tile", [1, 20, 50])
def test_the_batch_is_walked_in_blocks(loss, agree, vectors, monkeypatch, tile):
    monkeypatch.setattr(tiles, "TILE", tile)
    given = targets(2, SAME)
    agree(loss(given, in_batch=True), reference(given, in_batch=True), *vectors(2))


def test_with_one_negative_it_is_a_smooth_triplet_loss(loss, vectors):
    anchor, positive, negative = vectors(1)
    given = targets(1, None, negatives=[[9] * 7])
    nearer = ((anchor * negative).sum(1) - (anchor * positive).sum(1)) / 0.05
    right = torch.nn.functional.softplus(nearer).mean()
    torch.testing.assert_close(loss(given)(anchor, positive, negative), right)


@pytest.mark.parametrize("in_batch", [False, True])
@pytest.mark.parametrize(
    ("anchors", "negatives", "same"),
    [([0] * 7, [[0] * 7] * 2, None), (ANCHORS, NEGATIVES, [False] * 7)],
)
def test_without_a_positive_or_a_negative_it_costs_nothing(
    loss, vectors, value_and_gradients, anchors, negatives, same, in_batch
):
    given = targets(2, same, anchors, negatives)
    value, gradients = value_and_gradients(loss(given, in_batch=in_batch), *vectors(2))
    assert value == 0
    assert not any(gradient.any() for gradient in gradients)


@pytest.mark.parametrize("in_batch", [False, True])
def test_a_single_row(loss, agree, unit, in_batch):
    given = targets(2, None, [0], [[1], [2]])
    four = [unit(1, seed=seed) for seed in range(4)]
    agree(loss(given, in_batch=in_batch), reference(given, in_batch=in_batch), *four)


def test_a_row_that_is_not_the_same_still_serves_others_as_negatives(loss, vectors):
    same = [True, False, True, True, True, True, True]
    run, moved = loss(targets(1, same), in_batch=True), vectors(1)
    before = run(*moved)
    moved[1][1] = moved[0][2]  # the positive of the row that is not the same
    assert run(*moved) > before + 0.1


@pytest.mark.parametrize("temperature", [1e-3, 1e2])
@pytest.mark.parametrize("in_batch", [False, True])
def test_no_temperature_overflows(loss, vectors, value_and_gradients, temperature, in_batch):
    given, options = targets(2), {"temperature": temperature, "in_batch": in_batch}
    right, slopes = value_and_gradients(reference(given, **options), *vectors(2))
    run, rough = loss(given, **options), vectors(2, dtype=torch.float32)
    value, gradients = value_and_gradients(run, *rough)
    torch.testing.assert_close(value.double(), right, rtol=2e-4, atol=2e-4)
    for gradient, slope in zip(gradients, slopes, strict=True):
        most = max(slope.abs().max().item(), 1)
        torch.testing.assert_close(gradient.double(), slope, rtol=0, atol=2e-4 * most)


@pytest.mark.parametrize("in_batch", [False, True])
def test_gradcheck(loss, vectors, in_batch):
    leaves = [vector.requires_grad_() for vector in vectors(2)]
    run = loss(targets(2, SAME), in_batch=in_batch, temperature=0.5)
    assert torch.autograd.gradcheck(run, leaves)


@pytest.mark.parametrize("in_batch", [False, True])
def test_in_bf16_and_strided_and_in_autocast(loss, vectors, value_and_gradients, in_batch):
    run, rough = loss(targets(2, SAME), in_batch=in_batch), vectors(2, dtype=torch.bfloat16)
    exact = [vector.float() for vector in rough]
    right, slopes = value_and_gradients(run, *exact)
    value, gradients = value_and_gradients(run, *rough)
    torch.testing.assert_close(value, right)
    for gradient, slope in zip(gradients, slopes, strict=True):
        assert gradient.dtype == torch.bfloat16
        torch.testing.assert_close(gradient.float(), slope, rtol=0.01, atol=0.01)
    strided = [torch.cat([vector, vector], dim=1)[:, :6] for vector in exact]
    torch.testing.assert_close(run(*strided), right)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(run(*exact), right)


@pytest.mark.parametrize("in_batch", [False, True])
def test_what_is_no_number_stays_no_number(loss, vectors, in_batch):
    four = vectors(2)
    four[3][0] = math.nan
    assert loss(targets(2), in_batch=in_batch)(*four).isnan()


@pytest.mark.parametrize("in_batch", [False, True])
def test_nor_does_it_look_like_nothing_where_no_row_counts(loss, vectors, in_batch):
    four = vectors(2)
    four[0][0] = math.nan
    assert loss(targets(2, [False] * 7), in_batch=in_batch)(*four).isnan()


@pytest.mark.parametrize("count", [3, 4, 5, 12])
def test_it_takes_three_columns_or_more(make, count):
    names = [f"column {number}" for number in range(count)]
    make(NTuple).check("tuple", Given(names, {}, dim=8))
    with pytest.raises(RecipeError, match="tuple takes 3 or more columns; the recipe has 2"):
        make(NTuple).check("tuple", Given(names[:2], {}, dim=8))


class Wide(NTuple):
    columns = (3, 4, 6)


@pytest.mark.parametrize("cls", [NTuple, Wide])
@pytest.mark.parametrize("options", [{}, {"in_batch": True}, {"temperature": 1.0}])
def test_conformance(cls, options):
    check_loss(cls, options)


STEP = """
from msiam.losses.base import Targets
from msiam.losses.tuple import NTuple
from msiam.registry.options import parse_options

loss = NTuple(parse_options(NTuple, {"in_batch": True}, "loss"))

def step(rows):
    vectors = torch.nn.functional.normalize(torch.randn(3, rows, 8), dim=2)
    leaves = {name: v.clone().requires_grad_() for name, v in zip("apn", vectors)}
    number = torch.arange(rows)
    loss(leaves, Targets({"a": number, "p": number, "n": number + rows})).backward()
"""


def test_a_batch_of_6144_takes_no_memory_that_grows_with_its_square():
    matrix = 4 * 6144 * 2 * 6144  # one whole matrix of float32: 288 MiB
    assert growth(STEP, "step(64)", "step(6144)") < matrix / 4
