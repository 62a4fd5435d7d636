"""Attention by blocks is attention text by text, in value and in gradient."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from msiam_transformer.attention import Attention, Blocks
from torch.nn.functional import scaled_dot_product_attention

HEADS, WIDTH = 3, 4


def states(lengths, dtype=torch.float32):
    random = torch.Generator().manual_seed(0)
    shape = 4, sum(lengths), HEADS, WIDTH
    return torch.randn(shape, generator=random).to(dtype).unbind()


def runs_of(lengths):
    return [(lengths.count(long), long) for long in sorted(set(lengths))]


def text_by_text(query, key, value, lengths, scale):
    texts = zip(*(part.split(lengths) for part in (query, key, value)), strict=True)
    found = [
        scaled_dot_product_attention(*(part.transpose(0, 1) for part in text), scale=scale)
        for text in texts
    ]
    return torch.cat([part.transpose(0, 1) for part in found])


@given(st.lists(st.integers(1, 40), min_size=1, max_size=12))
def test_values_and_gradients_are_those_of_each_text_alone(lengths):
    lengths = sorted(lengths)
    *parts, weight = states(lengths)
    parts = [part.requires_grad_() for part in parts]
    wanted = text_by_text(*parts, lengths, 0.3)
    found = Attention.apply(*parts, Blocks(runs_of(lengths), HEADS), 0.3, 0.0)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)
    gradients = (torch.autograd.grad((out * weight).sum(), parts) for out in (found, wanted))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_states_need_not_lie_in_order_nor_be_float32():
    lengths = [2, 3, 3, 17]
    parts = [part.to(torch.bfloat16) for part in states(lengths)[:3]]
    blocks = Blocks(runs_of(lengths), HEADS)
    wanted = Attention.apply(*parts, blocks, 0.5, 0.0)
    turned = [part.transpose(0, 1).contiguous().transpose(0, 1) for part in parts]
    found = Attention.apply(*turned, blocks, 0.5, 0.0)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, wanted)
    exact = text_by_text(*(part.float() for part in parts), lengths, 0.5)
    torch.testing.assert_close(found.float(), exact, atol=0.02, rtol=0.01)


def test_dropout_is_of_the_weights():
    """With equal keys and a value of one, what is left is how many weights are left."""
    torch.manual_seed(0)
    lengths = [10] * 400
    query, key = torch.zeros(2, 4000, HEADS, WIDTH)
    value = torch.ones(4000, HEADS, WIDTH, requires_grad=True)
    blocks = Blocks(runs_of(lengths), HEADS)
    found = Attention.apply(query, key, value, blocks, 1.0, 0.25)
    kept = found[..., 0] * 10 * 0.75
    torch.testing.assert_close(kept, kept.round(), atol=1e-3, rtol=0)
    assert kept.mean().item() == pytest.approx(7.5, abs=0.05)
    assert kept.var().item() == pytest.approx(10 * 0.25 * 0.75, abs=0.1)


def test_gradients_with_dropout_are_of_what_was_drawn():
    lengths = [2, 2, 5]
    parts = [part.double().float() for part in states(lengths)[:3]]
    blocks = Blocks(runs_of(lengths), HEADS)
    weight = states(lengths)[3]

    def value(*parts):
        torch.manual_seed(3)
        return (Attention.apply(*parts, blocks, 0.5, 0.4) * weight).sum()

    parts = [part.requires_grad_() for part in parts]
    gradients = torch.autograd.grad(value(*parts), parts)
    for number, gradient in enumerate(gradients):
        step = torch.randn(parts[number].shape, generator=torch.Generator().manual_seed(1))
        moved = [
            value(*(p + sign * 1e-2 * step if n == number else p for n, p in enumerate(parts)))
            for sign in (1, -1)
        ]
        slope = (moved[0] - moved[1]) / 2e-2
        assert slope.item() == pytest.approx((gradient * step).sum().item(), rel=0.02, abs=1e-3)
