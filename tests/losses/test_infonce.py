from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from msiam.errors import RecipeError
from msiam.losses import tiles
from msiam.losses.base import Targets
from msiam.losses.infonce import InfoNCE

GROUPS = [0, 1, 2, 0, 1, 5, 0]
SAME = [True, False, True, True, False, True, True]


ANCHORS = [True, False, True, True, True, False, True]


def reference(targets: Targets, temperature=0.07, directions="both", pool=False):
    """The mean of −log softmax over anchors and directions, an anchor at a time."""

    def cost(a, b):
        sides = {"a": a, "b": b}
        asks = [
            i
            for i in range(len(a))
            if (targets.same is None or targets.same[i])
            and (targets.anchors is None or targets.anchors[i])
        ]
        total, count = (a @ b.T * 0).sum(), 0
        for mine, other in (("a", "b"), ("b", "a"))[: 1 if directions == "first" else 2]:
            for i in asks:
                group = targets.groups[mine][i]
                candidates = [
                    sides[column][j]
                    for column in ((mine, other) if pool else (other,))
                    for j in range(len(a))
                    if targets.groups[column][j] != group or (column == other and j == i)
                ]
                logits = sides[mine][i] @ torch.stack(candidates).T / temperature
                own = sides[mine][i] @ sides[other][i] / temperature
                total, count = total + logits.logsumexp(0) - own, count + 1
        return total / max(count, 1)

    return cost


@pytest.fixture(scope="module")
def loss(make):
    """The loss as a function of two matrices."""

    def loss(targets, **options):
        module = make(InfoNCE, **options)
        return lambda a, b: module({"a": a, "b": b}, targets)

    return loss


def test_by_hand(loss, targets):
    a = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    value = loss(targets(2), temperature=0.5)(a, a)
    assert value.item() == pytest.approx(math.log(1 + math.exp(-2)), rel=1e-5)


@pytest.mark.parametrize("tile", [1, 3, 20, 1 << 22])
@pytest.mark.parametrize(
    ("groups", "same"), [(None, None), (GROUPS, None), (None, SAME), (GROUPS, SAME)]
)
def test_it_is_the_reference_in_value_and_gradient(
    loss, agree, unit, targets, monkeypatch, tile, groups, same
):
    monkeypatch.setattr(tiles, "TILE", tile)  # 20: blocks of 2, 2, 2 and 1 of the 7 rows
    given = targets(7, groups, same)
    agree(loss(given), reference(given), unit(7), unit(7, seed=1))


@pytest.mark.parametrize("tile", [1, 20, 1 << 22])
@pytest.mark.parametrize("directions", ["both", "first"])
@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize("anchors", [None, ANCHORS, [False] * 7])
@pytest.mark.parametrize(("groups", "same"), [(None, None), (GROUPS, SAME)])
@pytest.mark.parametrize("temperature", [0.07, 0.02])
def test_directions_pools_and_rows_that_are_candidates_alone(
    loss,
    agree,
    unit,
    targets,
    monkeypatch,
    tile,
    directions,
    pool,
    anchors,
    groups,
    same,
    temperature,
):
    monkeypatch.setattr(tiles, "TILE", tile)
    given = targets(7, groups, same)
    if anchors is not None:
        given = dataclasses.replace(given, anchors=torch.tensor(anchors))
    options = {"directions": directions, "pool": pool, "temperature": temperature}
    agree(loss(given, **options), reference(given, **options), unit(7), unit(7, seed=1))


@given(st.data(), st.sampled_from(["both", "first"]), st.booleans(), st.booleans())
def test_whatever_the_batch(loss, agree, any_batch, data, directions, pool, some):
    options = {"directions": directions, "pool": pool}
    with any_batch(data) as (given, vectors):
        rows = len(vectors[0])
        if some:
            asks = data.draw(st.lists(st.booleans(), min_size=rows, max_size=rows))
            given = dataclasses.replace(given, anchors=torch.tensor(asks))
        agree(loss(given, **options), reference(given, **options), *vectors, dtype=torch.float64)


@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize("same", [None, SAME])
def test_columns_of_one_tower_share_their_items(
    loss, agree, unit, targets, of_one_tower, pool, same
):
    given = targets(7, GROUPS, same)
    run, right = loss(given, pool=pool), reference(given, pool=pool)
    agree(of_one_tower(run, 2), of_one_tower(right, 2), unit(5))


def test_two_views_in_a_pool_by_hand(loss, targets):
    a, b = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [0.0, -1.0]])
    run = loss(targets(2), temperature=1.0, pool=True)
    near = math.log(math.e + 2) - 1  # its other view at similarity 1, two others at 0
    far = math.log(1 / math.e + 2) + 1
    assert run(a, b).item() == pytest.approx((near + far) / 2, rel=1e-5)


@pytest.mark.parametrize("temperature", [1e-3, 1e-2, 1.0, 1e2])
def test_no_temperature_overflows(loss, unit, targets, value_and_gradients, temperature):
    given = targets(7, GROUPS)
    run = loss(given, temperature=temperature, min_temperature=1e-3)
    right, slopes = value_and_gradients(reference(given, temperature), unit(7), unit(7, seed=1))
    for dtype, digits in ((torch.float64, 1e-6), (torch.float32, 2e-4)):
        a, b = unit(7, dtype=dtype), unit(7, seed=1, dtype=dtype)
        value, gradients = value_and_gradients(run, a, b)
        torch.testing.assert_close(value.double(), right, rtol=digits, atol=digits)
        for gradient, slope in zip(gradients, slopes, strict=True):
            most = slope.abs().max().item()
            torch.testing.assert_close(gradient.double(), slope, rtol=0, atol=digits * max(most, 1))


def test_long_embeddings_do_not_overflow_either(loss, unit, targets, value_and_gradients):
    a, b = (100 * unit(7, seed=seed, dtype=torch.float32) for seed in range(2))
    value, gradients = value_and_gradients(loss(targets(7), temperature=0.01), a, b)
    assert value.isfinite()
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("directions", ["both", "first"])
@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize("anchors", [None, ANCHORS])
def test_gradcheck(make, unit, targets, directions, pool, anchors):
    module = make(InfoNCE, temperature=0.3, directions=directions, pool=pool).double()
    given = targets(7, GROUPS, SAME)
    if anchors is not None:
        given = dataclasses.replace(given, anchors=torch.tensor(anchors))

    def run(a, b, log_scale):
        return torch.func.functional_call(
            module, {"log_scale": log_scale}, ({"a": a, "b": b}, given)
        )

    inputs = unit(7), unit(7, seed=1), module.log_scale
    assert torch.autograd.gradcheck(run, [t.detach().clone().requires_grad_() for t in inputs])


# ---- Batches in which there is nothing to learn


@pytest.mark.parametrize(
    ("rows", "groups", "same"),
    [
        (4, None, [False] * 4),  # no positive
        (4, [0, 0, 0, 0], None),  # all negatives masked
        (1, None, None),
        (1, None, [False]),
    ],
)
def test_without_anchors_or_negatives_it_costs_nothing(
    loss, unit, targets, value_and_gradients, rows, groups, same
):
    run = loss(targets(rows, groups, same))
    value, gradients = value_and_gradients(run, unit(rows), unit(rows, seed=1))
    assert value.item() == pytest.approx(0, abs=1e-6)
    assert all(gradient.abs().max() < 1e-6 for gradient in gradients)


def test_rows_that_are_not_the_same_are_candidates_all_the_same(loss, unit, targets):
    a, b = unit(3), unit(3, seed=1)
    with_others = loss(targets(3, same=[True, False, False]))(a, b)
    alone = loss(targets(1))(a[:1], b[:1])
    assert with_others > alone + 1e-3


def test_embeddings_that_tie(loss, agree, unit, targets):
    given = targets(7, GROUPS)
    one = unit(1).expand(7, -1)
    agree(loss(given), reference(given), one, one)


# ---- The temperature


def test_the_temperature_is_learnt(make, unit, targets, value_and_gradients):
    module = make(InfoNCE, temperature=0.5)
    module({"a": unit(7), "b": unit(7, seed=1)}, targets(7)).backward()
    step = 1e-4
    values = [
        reference(targets(7), 1 / math.exp(math.log(2) + sign * step))(unit(7), unit(7, seed=1))
        for sign in (1, -1)
    ]
    slope = (values[0] - values[1]) / (2 * step)
    assert module.log_scale.grad.item() == pytest.approx(slope.item(), rel=1e-4)


def test_a_temperature_that_is_not_learnt_has_no_gradient_and_no_bound(make, unit, targets):
    module = make(InfoNCE, temperature=0.001, learn_temperature=False)
    assert module.temperature == pytest.approx(0.001)
    a = unit(3).requires_grad_()
    module({"a": a, "b": unit(3, seed=1)}, targets(3)).backward()
    assert module.log_scale.grad is None
    assert a.grad is not None


def test_a_learnt_temperature_comes_back_from_its_bound(make, unit, targets):
    module = make(InfoNCE, temperature=0.07, min_temperature=0.05)
    with torch.no_grad():
        module.log_scale.fill_(9.0)  # as after a step that was too long
    assert module.temperature == pytest.approx(0.05)
    # The partners are no nearer than the others, so that a higher temperature is better.
    module({"a": unit(7), "b": -unit(7)}, targets(7)).backward()
    assert module.log_scale.grad.item() > 0
    torch.optim.SGD(module.parameters(), lr=0.1).step()
    assert module.temperature > 0.05


def test_a_temperature_that_could_not_be_kept_is_refused(make):
    with pytest.raises(RecipeError) as raised:
        make(InfoNCE, temperature=0.001)
    message = str(raised.value)
    assert message.startswith("loss: found {'temperature': 0.001}; temperature 0.001 is below")
    assert message.endswith("lower that too, or set learn_temperature: false")


def test_the_temperature_is_in_the_state(make):
    module, again = make(InfoNCE, temperature=0.5), make(InfoNCE)
    again.load_state_dict(module.state_dict())
    assert again.temperature == pytest.approx(0.5)


# ---- Kinds of numbers, and of memory


def test_bf16_is_computed_in_float32(loss, unit, targets, value_and_gradients):
    a, b = (unit(7, seed=seed, dtype=torch.bfloat16) for seed in range(2))
    run = loss(targets(7, GROUPS))
    right, slopes = value_and_gradients(run, a.float(), b.float())
    value, gradients = value_and_gradients(run, a, b)
    assert value == right
    for gradient, slope in zip(gradients, slopes, strict=True):
        assert torch.equal(gradient, slope.bfloat16())


def test_autocast_changes_nothing(loss, unit, targets, value_and_gradients):
    vectors = [unit(7, seed=seed, dtype=torch.float32) for seed in range(2)]
    run = loss(targets(7))
    right, slopes = value_and_gradients(run, *vectors)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value, gradients = value_and_gradients(run, *vectors)
    assert value == right
    assert all(torch.equal(g, s) for g, s in zip(gradients, slopes, strict=True))


def test_strided_and_expanded_embeddings(loss, unit, targets, value_and_gradients):
    run = loss(targets(6))
    a, b = unit(6), unit(6, seed=1)
    strided = torch.cat([b, b], dim=1)[:, :6]
    torch.testing.assert_close(value_and_gradients(run, a, strided), value_and_gradients(run, a, b))
    one = a[:1].expand(6, -1)
    torch.testing.assert_close(run(one, b), run(one.contiguous(), b))


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_what_is_no_number_stays_no_number(loss, unit, targets, broken):
    a = unit(7)
    a[2, 0] = broken
    assert not loss(targets(7))(a, unit(7, seed=1)).isfinite()
