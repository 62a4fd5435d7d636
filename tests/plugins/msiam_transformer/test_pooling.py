"""Pooling equals pooling text by text."""

from __future__ import annotations

import pytest
import torch
from msiam_transformer.pooling import pool

EXPECTED = {
    "mean": lambda text: text.mean(0),
    "max": lambda text: text.max(0).values,
    "cls": lambda text: text[0],
    "last": lambda text: text[-1],
}


@pytest.mark.parametrize("kind", EXPECTED)
def test_pooling_sees_the_tokens_only(kind):
    torch.manual_seed(0)
    states, lengths = torch.randn(3, 5, 4), [5, 1, 3]
    mask = torch.tensor([[1] * n + [0] * (5 - n) for n in lengths])
    expected = [EXPECTED[kind](text[:n]) for text, n in zip(states, lengths, strict=True)]
    torch.testing.assert_close(pool(kind, states, mask), torch.stack(expected))


def test_a_mean_in_bfloat16_is_summed_in_float32():
    states = torch.full((1, 4096, 1), 1.0).bfloat16()
    assert pool("mean", states, torch.ones(1, 4096, dtype=torch.int64)).item() == 1
