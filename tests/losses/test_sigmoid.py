from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from msiam.losses import tiles
from msiam.losses.base import Targets
from msiam.losses.sigmoid import Sigmoid
from msiam.registry.conformance import check_loss

GROUPS = [0, 1, 2, 0, 1, 5, 0]
SAME = [True, False, True, True, False, True, True]


def reference(targets: Targets, scale: float = 10.0, bias: float = -10.0):
    """−log σ(z · logit), a pair at a time."""

    def cost(a, b):
        total = (a * 0).sum() + (b * 0).sum()
        asks = [True] * len(a) if targets.anchors is None else targets.anchors.tolist()
        for i in range(len(a)):
            for j in range(len(b)):
                if not asks[i] and not asks[j]:
                    continue
                if i == j:
                    z = 1 if targets.same is None or targets.same[i] else -1
                elif targets.groups["a"][i] == targets.groups["b"][j]:
                    continue
                else:
                    z = -1
                total = total - torch.sigmoid(z * (scale * (a[i] @ b[j]) + bias)).log()
        return total / max(sum(asks), 1)

    return cost


@pytest.fixture(scope="module")
def loss(make):
    """The loss as a function of two matrices."""

    def loss(targets, **options):
        module = make(Sigmoid, **options)
        return lambda a, b: module({"a": a, "b": b}, targets)

    return loss


def test_it_keeps_the_contract_of_losses():
    check_loss(Sigmoid)
    check_loss(Sigmoid, {"scale": 3.0, "learn_scale": False, "bias": 0.0, "learn_bias": False})


def test_by_hand(loss, targets):
    a = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    same, apart = math.log(1 + math.exp(-(2 - 0.5))), math.log(1 + math.exp(-0.5))
    value = loss(targets(2), scale=2.0, bias=-0.5)(a, a)
    assert value.item() == pytest.approx((2 * same + 2 * apart) / 2, rel=1e-5)


def test_it_begins_as_in_the_paper(make):
    module = make(Sigmoid)
    assert module.log_scale.item() == pytest.approx(math.log(10))
    assert module.bias.item() == -10


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
    run = loss(given, scale=4.0, bias=-1.0)
    agree(run, reference(given, 4.0, -1.0), unit(7), unit(7, seed=1))


@given(st.data())
def test_whatever_the_batch(loss, agree, any_batch, data):
    with any_batch(data) as (given, vectors):
        agree(loss(given, bias=-1.0), reference(given, bias=-1.0), *vectors, dtype=torch.float64)


@pytest.mark.parametrize("tile", [1, 20, 1 << 22])
@pytest.mark.parametrize("anchors", [[True, False, True, True, True, False, True], [False] * 7])
@pytest.mark.parametrize(("groups", "same"), [(None, None), (GROUPS, SAME)])
def test_rows_that_are_candidates_alone(
    loss, agree, unit, targets, monkeypatch, tile, anchors, groups, same
):
    monkeypatch.setattr(tiles, "TILE", tile)
    given = dataclasses.replace(targets(7, groups, same), anchors=torch.tensor(anchors))
    agree(loss(given, bias=-1.0), reference(given, bias=-1.0), unit(7), unit(7, seed=1))


@pytest.mark.parametrize("same", [None, SAME])
def test_columns_of_one_tower_share_their_items(loss, agree, unit, targets, same):
    """The embeddings of the step's distinct items, of which several stand in both columns."""
    given = targets(7, GROUPS, same)
    left, right = torch.tensor([0, 1, 2, 0, 4, 3, 0]), torch.tensor([1, 4, 2, 1, 1, 2, 0])

    def shared(cost):
        return lambda items: cost(items[left], items[right])

    agree(shared(loss(given)), shared(reference(given)), unit(5))


def test_a_labels_word_goes_before_what_groups_say(loss, agree, unit):
    """Rows 0 and 1 are labelled otherwise than pairs of other rows let one think."""
    groups = torch.tensor([0, 1, 2, 2])
    given = Targets(
        {"a": groups, "b": torch.tensor([0, 3, 2, 2])}, torch.tensor([False, True, True, True])
    )
    agree(loss(given), reference(given), unit(4), unit(4, seed=1))
    pushed = loss(given, bias=0.0)
    assert pushed(unit(4), unit(4)) > pushed(unit(4), unit(4) * torch.tensor([[-1], [1], [1], [1]]))


@pytest.mark.parametrize("scale", [1e-2, 1.0, 1e2, 1e3])
def test_no_scale_overflows(loss, unit, targets, value_and_gradients, scale):
    given = targets(7, GROUPS)
    run = loss(given, scale=scale, bias=-1.0)

    def stable(a, b):
        kept = targets(7, GROUPS).groups["a"][:, None] != given.groups["b"]
        logits = scale * a @ b.T - 1.0
        costs = torch.nn.functional.softplus(logits, threshold=40)[kept].sum()
        return (costs - torch.nn.functional.logsigmoid(logits.diagonal()).sum()) / 7

    right, slopes = value_and_gradients(stable, unit(7), unit(7, seed=1))
    for dtype, digits in ((torch.float64, 1e-6), (torch.float32, 1e-4)):
        a, b = unit(7, dtype=dtype), unit(7, seed=1, dtype=dtype)
        value, gradients = value_and_gradients(run, a, b)
        torch.testing.assert_close(value.double(), right, rtol=digits, atol=digits)
        for gradient, slope in zip(gradients, slopes, strict=True):
            most = max(slope.abs().max().item(), 1)
            torch.testing.assert_close(gradient.double(), slope, rtol=0, atol=digits * most)


def test_gradcheck(make, unit, targets):
    module = make(Sigmoid, scale=3.0, bias=-1.0).double()
    given = targets(7, GROUPS, SAME)

    def run(a, b, log_scale, bias):
        state = {"log_scale": log_scale, "bias": bias}
        return torch.func.functional_call(module, state, ({"a": a, "b": b}, given))

    inputs = unit(7), unit(7, seed=1), module.log_scale, module.bias
    assert torch.autograd.gradcheck(run, [t.detach().clone().requires_grad_() for t in inputs])


# ---- Batches in which there is little to learn


def test_a_single_pair_is_told_what_its_label_says(loss, unit, targets):
    a, b = unit(1), unit(1, seed=1)
    logit = (10 * (a * b).sum() - 10).item()
    alike = loss(targets(1))(a, b)
    assert alike.item() == pytest.approx(math.log(1 + math.exp(-logit)), rel=1e-5)
    other = loss(targets(1, same=[False]))(a, b)
    assert other.item() == pytest.approx(math.log(1 + math.exp(logit)), rel=1e-4)


@pytest.mark.parametrize(("groups", "same"), [([0] * 4, None), (None, [False] * 4)])
def test_without_negatives_or_without_positives(loss, agree, unit, targets, groups, same):
    given = targets(4, groups, same)
    agree(loss(given), reference(given), unit(4), unit(4, seed=1))


def test_embeddings_that_tie(loss, agree, unit, targets):
    given = targets(7, GROUPS)
    one = unit(1).expand(7, -1)
    agree(loss(given), reference(given), one, one)


# ---- Scale and bias


def test_scale_and_bias_are_learnt(make, unit, targets):
    module = make(Sigmoid, scale=3.0, bias=-1.0)
    module({"a": unit(7), "b": unit(7, seed=1)}, targets(7)).backward()

    def at(log_scale, bias):
        return reference(targets(7), math.exp(log_scale), bias)(unit(7), unit(7, seed=1)).item()

    step, start = 1e-4, math.log(3.0)
    of_scale = (at(start + step, -1.0) - at(start - step, -1.0)) / (2 * step)
    of_bias = (at(start, -1.0 + step) - at(start, -1.0 - step)) / (2 * step)
    assert module.log_scale.grad.item() == pytest.approx(of_scale, rel=1e-4)
    assert module.bias.grad.item() == pytest.approx(of_bias, rel=1e-4)


@pytest.mark.parametrize("learnt", ["scale", "bias", None])
def test_either_may_be_fixed(make, unit, targets, learnt):
    fixed = {f"learn_{name}": name == learnt for name in ("scale", "bias")}
    module = make(Sigmoid, **fixed)
    a = unit(3).requires_grad_()
    module({"a": a, "b": unit(3, seed=1)}, targets(3)).backward()
    assert (module.log_scale.grad is not None, module.bias.grad is not None) == (
        learnt == "scale",
        learnt == "bias",
    )
    assert a.grad is not None


def test_scale_and_bias_are_in_the_state(make):
    module, again = make(Sigmoid, scale=5.0, bias=1.0), make(Sigmoid)
    again.load_state_dict(module.state_dict())
    assert again.log_scale.exp().item() == pytest.approx(5.0)
    assert again.bias.item() == 1.0


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


def test_without_gradients_the_value_is_the_same(loss, unit, targets):
    run = loss(targets(7, GROUPS))
    a, b = unit(7).requires_grad_(), unit(7, seed=1)
    with torch.no_grad():
        value = run(a, b)
    assert not value.requires_grad
    assert value == run(a, b)


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_what_is_no_number_stays_no_number(loss, unit, targets, broken):
    a = unit(7)
    a[2, 0] = broken
    assert not loss(targets(7))(a, unit(7, seed=1)).isfinite()
