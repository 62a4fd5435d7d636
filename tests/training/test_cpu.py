"""Layers on a CPU give what PyTorch's own give, and are themselves again afterwards."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from msiam.training import cpu


def gradients(layer, states, weight):
    states = states.clone().requires_grad_()
    found = layer(states)
    return found, *torch.autograd.grad((found * weight).sum(), [states, *layer.parameters()])


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=3),
    st.integers(1, 9),
    st.integers(1, 9),
    st.booleans(),
)
def test_a_linear_layer_keeps_its_values_and_gradients(shape, width, wide, bias):
    layer = nn.Linear(width, wide, bias=bias)
    states, weight = torch.randn(*shape, width), torch.randn(*shape, wide)
    wanted = gradients(layer, states, weight)
    with cpu.FastLayers(layer)():
        found = gradients(layer, states, weight)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_a_linear_layer_goes_through_onednn_where_there_is_one():
    layer = nn.Linear(4, 3)
    with cpu.FastLayers(layer)():
        found = layer(torch.randn(2, 4))
    assert ("_Linear" in type(found.grad_fn).__name__) == cpu._multiplies()


def test_layers_in_a_row_learn_what_they_learn_elsewhere():
    """Gradients that are no plain tensors: expanded ones, and those of turned and cut states."""
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 4)).train()
    states = torch.randn(5, 3, 6).transpose(0, 1)[:, 1:]
    fast, results = cpu.FastLayers(layers), []
    for context in (fast, cpu.contextlib.nullcontext):
        layers.zero_grad()
        with context():
            layers(states).sum().backward()
        results.append([parameter.grad for parameter in layers.parameters()])
    for found, wanted in zip(*results, strict=True):
        torch.testing.assert_close(found, wanted)


def test_under_autocast_a_linear_layer_is_as_ever():
    layer = nn.Linear(4, 3)
    states = torch.randn(2, 4)
    with torch.autocast("cpu", torch.bfloat16):
        wanted = layer(states)
        with cpu.FastLayers(layer)():
            found = layer(states)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, wanted)


def test_outside_layers_are_themselves():
    layers = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5))
    fast = cpu.FastLayers(layers)
    with pytest.raises(ZeroDivisionError), fast():
        assert all("forward" in vars(layer) for layer in layers)
        raise ZeroDivisionError
    assert not any("forward" in vars(layer) for layer in layers)


def test_a_layer_whose_forward_is_another_s_stays_so():
    layer = nn.Linear(4, 3)
    layer.forward = lambda states: states
    with cpu.FastLayers(layer)():
        assert layer(5) == 5
    assert layer(5) == 5


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_dropout_drops_its_share_and_makes_up_for_it(share):
    torch.manual_seed(0)
    layer = nn.Dropout(share)
    states = torch.ones(400, 500, requires_grad=True)
    with cpu.FastLayers(layer)():
        found = layer(states)
    dropped = found == 0
    assert dropped.float().mean().item() == pytest.approx(share, abs=0.005)
    assert found[~dropped].unique().item() == pytest.approx(1 / (1 - share), rel=1e-4)
    # Neither rows nor columns fall out together.
    assert dropped.float().mean(0).std() < 0.05
    assert dropped.float().mean(1).std() < 0.05
    found.sum().backward()
    assert torch.equal(states.grad, found)


@pytest.mark.parametrize("share", [0.0, 1e-6, 1.0])
def test_dropout_of_nothing_or_all_is_as_ever(share):
    layer = nn.Dropout(share)
    with cpu.FastLayers(layer)():
        found = layer(torch.ones(50))
    torch.testing.assert_close(found, torch.full((50,), float(share < 1)))


def test_dropout_is_drawn_from_torch_s_generator():
    layer = nn.Dropout(0.5)
    with cpu.FastLayers(layer)():
        results = []
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            results.append(layer(torch.ones(90)))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_dropout_in_evaluation_changes_nothing():
    layer = nn.Dropout(0.5).eval()
    states = torch.ones(9)
    with cpu.FastLayers(layer)():
        assert torch.equal(layer(states), states)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_dropout_lets_the_same_numbers_through_forward_and_backward(dtype):
    states = torch.randn(7, 33, dtype=dtype).requires_grad_()
    layer = nn.Dropout(0.3)
    with cpu.FastLayers(layer)():
        found = layer(states)
    (gradient,) = torch.autograd.grad(found.sum(), states)
    assert found.dtype is gradient.dtype is dtype and (found == 0).any()
    torch.testing.assert_close(found, gradient * states.detach())


@pytest.mark.parametrize("most", [1e-3, 1e3])
def test_gradients_are_clipped_as_torch_clips_them(most):
    ours, theirs = (nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3)) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    for layers in (ours, theirs):
        layers[0].bias.requires_grad_(False)
        layers(torch.ones(2, 5)).square().sum().backward()
    norm = nn.utils.clip_grad_norm_(theirs.parameters(), most)
    assert torch.equal(cpu.clip(ours.parameters(), most), norm)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert one.grad is other.grad is None or torch.equal(one.grad, other.grad)


def test_memory_is_given_back_in_the_end(monkeypatch):
    calls = []

    class Libc:
        def __init__(self, name):
            pass

        def mallopt(self, what, value):
            calls.append((what, value))

        def malloc_trim(self, pad):
            calls.append("trim")

    monkeypatch.setattr(cpu.ctypes, "CDLL", Libc)
    with pytest.raises(ZeroDivisionError), cpu.memory_kept():
        assert calls == [(-1, cpu.ROOM), (-3, cpu.ROOM)]
        raise ZeroDivisionError
    assert calls[-1] == "trim"
    assert len(calls) == 5


def test_another_libc_is_left_alone(monkeypatch):
    monkeypatch.setattr(cpu.ctypes, "CDLL", lambda name: object())
    with cpu.memory_kept():
        pass
