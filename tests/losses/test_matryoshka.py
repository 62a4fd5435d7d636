from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from msiam.errors import PluginError, RecipeError
from msiam.losses.base import Given, Targets
from msiam.losses.contrastive import Contrastive
from msiam.losses.infonce import InfoNCE
from msiam.losses.matryoshka import Matryoshka
from msiam.losses.quadruplet import Quadruplet
from msiam.losses.triplet import Triplet
from msiam.losses.tuple import NTuple
from msiam.registry.conformance import check_loss
from msiam.registry.options import parse_options

GROUPS = [0, 1, 2, 0, 1, 5, 0]
SAME = [True, False, True, True, False, True, True]


def softmax(a, b, targets, temperature):
    """InfoNCE, an anchor at a time."""
    s = a @ b.T / temperature
    mine, theirs = targets.groups["a"], targets.groups["b"]
    anchors = [i for i in range(len(a)) if targets.same is None or targets.same[i]]
    total = (s * 0).sum()
    for i in anchors:
        row = [s[i, j] for j in range(len(a)) if j == i or mine[i] != theirs[j]]
        column = [s[j, i] for j in range(len(a)) if j == i or mine[j] != theirs[i]]
        for direction in (row, column):
            total = total + torch.stack(direction).logsumexp(0) - s[i, i]
    return total / (2 * max(len(anchors), 1))


def squares(a, b, targets, margin):
    """Contrastive, a row at a time."""
    total = 0
    for left, right, together in zip(a, b, targets.same, strict=True):
        distance = ((left - right) ** 2).sum().sqrt()
        total += distance**2 if together else (margin - distance).clamp(min=0) ** 2
    return total / (2 * len(a))


def reference(inner, targets, dims, weights):
    """The inner loss of what is left of each embedding, at length 1."""

    def cut(vectors, width):
        return torch.stack([v[:width] / (v[:width] ** 2).sum().sqrt() for v in vectors])

    def cost(a, b):
        widths = zip(dims, weights, strict=True)
        return sum(w * inner(cut(a, d), cut(b, d), targets) for d, w in widths)

    return cost


@pytest.fixture(scope="module")
def loss(make):
    """The loss as a function of two matrices."""

    def loss(targets, **options):
        module = make(Matryoshka, **options)
        return lambda a, b: module({"a": a, "b": b}, targets)

    return loss


def test_by_hand(loss, targets):
    a, b = torch.tensor([[0.6, 0.8]]), torch.tensor([[-0.6, 0.8]])
    run = loss(targets(1, same=[True]), loss="contrastive", dims=[2, 1], weights=[1.0, 0.5])
    # At width 2 the squared distance is 1.2², at width 1 it is 2².
    assert run(a, b).item() == pytest.approx(1.44 / 2 + 0.5 * 4 / 2)


@pytest.mark.parametrize("weights", [None, [0.5, 2.0, 1.0]])
@pytest.mark.parametrize(("groups", "same"), [(None, None), (GROUPS, None), (GROUPS, SAME)])
def test_infonce_is_the_reference_in_value_and_gradient(
    loss, agree, unit, targets, groups, same, weights
):
    given, dims = targets(7, groups, same), [6, 4, 2]
    inner = {"name": "infonce", "temperature": 0.2}
    run = loss(given, loss=inner, dims=dims, weights=weights)
    right = reference(lambda *of: softmax(*of, 0.2), given, dims, weights or [1] * 3)
    agree(run, right, unit(7), unit(7, seed=1))


@given(st.data())
def test_whatever_the_batch(loss, agree, any_batch, data):
    with any_batch(data) as (batch, vectors):
        width = vectors[0].shape[1]
        dims = data.draw(st.lists(st.integers(1, width), min_size=1, unique=True))
        run = loss(batch, loss={"name": "infonce", "temperature": 0.2}, dims=dims)
        right = reference(lambda *of: softmax(*of, 0.2), batch, dims, [1] * len(dims))
        agree(run, right, *vectors, dtype=torch.float64)


def test_columns_of_one_tower_share_their_items(loss, agree, unit, targets, of_one_tower):
    batch = targets(7, GROUPS, SAME)
    run = loss(batch, loss={"name": "infonce", "temperature": 0.2}, dims=[6, 3])
    right = reference(lambda *of: softmax(*of, 0.2), batch, [6, 3], [1, 1])
    agree(of_one_tower(run, 2), of_one_tower(right, 2), unit(5))


@pytest.mark.parametrize(
    ("rows", "groups", "same"), [(4, None, [False] * 4), (4, [0] * 4, None), (1, None, None)]
)
def test_where_the_inner_loss_costs_nothing_it_does_not_either(
    loss, unit, targets, value_and_gradients, rows, groups, same
):
    run = loss(targets(rows, groups, same), dims=[6, 3])
    value, gradients = value_and_gradients(run, unit(rows), unit(rows, seed=1))
    assert value.item() == pytest.approx(0, abs=1e-6)
    assert all(gradient.abs().max() < 1e-6 for gradient in gradients)


@pytest.mark.parametrize("temperature", [1e-3, 1e2])
def test_no_temperature_of_the_inner_loss_overflows(
    loss, unit, targets, value_and_gradients, temperature
):
    inner = {"name": "infonce", "temperature": temperature, "min_temperature": 1e-3}
    run = loss(targets(7, GROUPS), loss=inner, dims=[6, 2])
    vectors = unit(7, dtype=torch.float32), unit(7, seed=1, dtype=torch.float32)
    right = reference(lambda *of: softmax(*of, temperature), targets(7, GROUPS), [6, 2], [1, 1])
    value, gradients = value_and_gradients(run, *vectors)
    assert value.item() == pytest.approx(right(*(v.double() for v in vectors)).item(), rel=1e-3)
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_strided_expanded_and_tied_embeddings(loss, unit, targets):
    run, a, b = loss(targets(7), dims=[6, 3]), unit(7), unit(7, seed=1)
    torch.testing.assert_close(run(a, torch.cat([b, b], dim=1)[:, :6]), run(a, b))
    one = b[:1].expand(7, -1)
    torch.testing.assert_close(run(one, one), run(one.contiguous(), one.contiguous()))


def test_each_width_has_a_vector_of_each_class(make, unit):
    module = make(Matryoshka, loss={"name": "arcface", "scale": 4.0}, dims=[6, 3])
    groups = torch.tensor([4, 2, 2, 9, 4, 2, 9])
    module.begin(groups.unique(), 6)
    assert [loss.weights.shape for loss in module.losses] == [(3, 6), (3, 3)]
    vectors = unit(7)
    found = module({"a": vectors}, Targets({"a": groups}))
    parts = zip(module.losses, (vectors, vectors[:, :3]), strict=True)
    right = sum(loss({"a": part}, Targets({"a": groups})) for loss, part in parts)
    torch.testing.assert_close(found, right)


def test_contrastive_is_the_reference_in_value_and_gradient(loss, agree, unit, targets):
    given, dims = targets(7, None, SAME), [2, 5]  # in any order, and not the full width
    run = loss(given, loss={"name": "contrastive", "margin": 1.5, "weight": 3.0}, dims=dims)
    right = reference(lambda *of: squares(*of, 1.5), given, dims, [3, 3])
    agree(run, right, unit(7), unit(7, seed=1))


def test_without_widths_the_embedding_is_halved_three_times(loss, unit, targets):
    given, a, b = targets(7), unit(7, 16), unit(7, 16, seed=1)
    named = loss(given, dims=[16, 8, 4, 2])(a, b)
    torch.testing.assert_close(loss(given)(a, b), named)
    assert loss(given)(a[:, :3], b[:, :3]).isfinite()


@pytest.mark.parametrize("length", [0.1, 10.0])
def test_lengths_play_no_part(loss, unit, targets, length):
    run, a, b = loss(targets(7), dims=[6, 3]), unit(7), unit(7, seed=1)
    torch.testing.assert_close(run(length * a, b), run(a, b))


@pytest.mark.parametrize(
    ("cls", "count"), [(Triplet, 1), (Triplet, 2), (Triplet, 3), (Quadruplet, 4), (NTuple, 5)]
)
def test_any_loss_and_its_columns(make, unit, cls, count):
    name = "tuple" if cls is NTuple else cls.__name__.lower()
    rows = torch.arange(7) // 2
    groups = [rows, rows, *(rows + 9 * k for k in range(1, 4))][:count]
    numbers = dict(zip("abcde", groups, strict=False))
    vectors = {column: unit(7, seed=seed) for seed, column in enumerate(numbers)}
    cut = {c: torch.nn.functional.normalize(v[:, :3], dim=1) for c, v in vectors.items()}
    found = make(Matryoshka, loss=name, dims=[6, 3])(vectors, Targets(numbers))
    right = sum(make(cls)(part, Targets(numbers)) for part in (vectors, cut))
    torch.testing.assert_close(found, right)


def test_each_width_has_what_it_learns_for_itself(make, unit, targets):
    module = make(Matryoshka, dims=[6, 2])
    assert set(module.state_dict()) == {"losses.0.log_scale", "losses.1.log_scale"}
    module({"a": unit(7), "b": unit(7, seed=1)}, targets(7)).backward()
    first, second = (loss.log_scale.grad for loss in module.losses)
    assert first and second and first != second


def test_gradcheck(loss, unit, targets):
    given = targets(7, GROUPS, SAME)
    run = loss(given, loss={"name": "triplet", "margin": 2.0}, dims=[6, 3], weights=[1.0, 0.3])
    assert torch.autograd.gradcheck(run, (unit(7).requires_grad_(), unit(7, seed=1)))


def test_in_bf16(loss, unit, targets, value_and_gradients):
    run = loss(targets(7), dims=[6, 3])
    a, b = (unit(7, seed=seed, dtype=torch.bfloat16) for seed in range(2))
    right, slopes = value_and_gradients(run, a.float(), b.float())
    value, gradients = value_and_gradients(run, a, b)
    torch.testing.assert_close(value, right)
    for gradient, slope in zip(gradients, slopes, strict=True):
        assert gradient.dtype == torch.bfloat16
        torch.testing.assert_close(gradient.float(), slope, rtol=0.02, atol=0.02)


def test_what_is_no_number_stays_no_number(loss, unit, targets):
    a = unit(7)
    a[2, 5] = math.nan  # beyond the narrower width
    assert loss(targets(7), dims=[6, 3])(a, unit(7, seed=1)).isnan()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dims": []}, "loss: dims: found []; List should have at least 1 item"),
        ({"dims": [4, 0]}, "loss: dims.1: found 0; Input should be greater than 0"),
        ({"dims": [4, 4]}, "dims names a width twice; weights says how much each counts"),
        ({"dims": [4, 2], "weights": [1]}, "weights must be one for each of the 2 dims; it has 1"),
        ({"weights": [1]}, "weights must be one for each of the 4 dims; it has 1"),
        ({"loss": {"dim": 4}}, "loss: loss.name: is missing"),
        ({"loss": "infonec"}, "loss (matryoshka).loss.name: no loss 'infonec'; did you mean"),
        (
            {"loss": {"name": "infonce", "temperatur": 1}},
            "loss (matryoshka).loss (infonce): temperatur: no such key; did you mean 'temperature'",
        ),
    ],
)
def test_options_that_do_not_fit(make, options, said):
    with pytest.raises((RecipeError, PluginError)) as raised:
        make(Matryoshka, **options)
    assert said in str(raised.value)


def test_an_inner_loss_that_does_not_fit(make):
    with pytest.raises(RecipeError, match=r"^loss \(matryoshka\)\.loss\.name: contrastive learns"):
        make(Matryoshka, loss="contrastive").check("matryoshka", Given(["a", "b"], {}, dim=8))
    with pytest.raises(RecipeError, match=r"dims: found 16; the towers' dim is 8"):
        make(Matryoshka, dims=[16]).check("matryoshka", Given(["a", "b"], {}, dim=8))
    with pytest.raises(RecipeError) as raised:
        make(Matryoshka).check("matryoshka", Given(["a", "b", "c"], {}, dim=8))
    where = "loss (matryoshka).loss.name"
    assert str(raised.value) == f"{where}: infonce takes 2 columns; the recipe has 3 (a, b, c)"
    twice = {"name": "matryoshka", "loss": "contrastive"}
    with pytest.raises(RecipeError, match=r"^loss \(matryoshka\)\.loss \(matryoshka\)\.loss\.name"):
        make(Matryoshka, loss=twice).check("matryoshka", Given(["a", "b"], {}, dim=8))


def test_a_width_that_no_embedding_has(make, unit, targets):
    with pytest.raises(RecipeError, match=r"matryoshka\)\.dims: found 8; the towers' dim is 6"):
        make(Matryoshka, dims=[8, 4])({"a": unit(7), "b": unit(7)}, targets(7))


def test_its_options_are_those_of_a_recipe():
    given = {"loss": {"name": "infonce", "temperature": 0.1}, "dims": [4, 2], "weights": [1, 2]}
    parsed = parse_options(Matryoshka, given, "loss")
    assert (parsed.loss.name, parsed.loss.options) == ("infonce", {"temperature": 0.1})
    kinds = [type(inner) for inner in Matryoshka(parsed).losses]
    assert kinds == [InfoNCE, InfoNCE]
    named = parse_options(Matryoshka, {"loss": "contrastive"}, "loss")
    assert {type(inner) for inner in Matryoshka(named).losses} == {Contrastive}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"dims": [8, 3], "weights": [1.0, 0.1]},
        {"loss": {"name": "triplet", "miner": "all", "margin": 1.0}, "dims": [8, 4]},
        {"loss": "cosent"},
        {"loss": "proxy_anchor", "dims": [8, 3]},
        {"loss": "cosine_embedding"},
    ],
)
def test_conformance(options):
    check_loss(Matryoshka, options)
