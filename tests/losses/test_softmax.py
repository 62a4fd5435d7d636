"""The softmax over a batch, by tiles and at once, beside the whole matrix."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from msiam.losses import tiles
from msiam.losses.softmax import softmax_cost


def dense(a, b, scale, groups, weights):
    """softmax_cost with the whole matrix at hand."""
    s = scale * a @ b.T
    known = groups[0][:, None] == groups[1]
    own = s.diagonal()
    s = s.masked_fill(known & ~torch.eye(len(a), dtype=torch.bool), -torch.inf)
    r, c = weights
    return r @ (s.logsumexp(1) - own) + c @ (s.logsumexp(0) - own)


@given(
    st.integers(1, 9),
    st.integers(1, 100),
    st.integers(1, 9),
    st.integers(0, 99),
    st.floats(0.01, 300),
)
def test_it_is_the_dense_cost_whatever_the_size_of_a_tile(rows, tile, kinds, seed, scale):
    random = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    groups = tuple(torch.randint(kinds, (rows,), generator=random) for _ in range(2))
    leaves = [draw(rows, 3), draw(rows, 3), torch.tensor(scale, dtype=torch.float64)]
    weights = (draw(rows).abs(), draw(rows).abs())
    results = []
    for cost in (softmax_cost, dense):
        inputs = [leaf.clone().requires_grad_() for leaf in leaves]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tiles, "TILE", tile)
            patch.setattr(tiles, "FEW", seed)
            value = cost(*inputs, groups, weights)
            results.append((value, torch.autograd.grad(3 * value, inputs)))
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("tile", [1, 1 << 20])
def test_differentiating_twice_is_refused_and_not_wrong(tile, monkeypatch):
    monkeypatch.setattr(tiles, "TILE", tile)
    a = torch.randn(4, 3, requires_grad=True)
    groups, weights = (torch.arange(4),) * 2, (torch.ones(4),) * 2
    value = softmax_cost(a, a.detach(), torch.tensor(1.0), groups, weights)
    factor = torch.tensor(2.0, requires_grad=True)
    (slope,) = torch.autograd.grad(factor * value, a, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()
