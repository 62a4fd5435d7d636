from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from msiam.losses import tiles
from msiam.losses.tiles_sigmoid import softplus_cost


@given(st.integers(1, 9), st.integers(1, 100), st.integers(1, 9), st.integers(0, 99))
def test_it_is_the_dense_cost_whatever_the_size_of_a_tile(rows, tile, kinds, seed):
    random = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    def whole(a, b, scale, bias, groups, same):
        own = torch.eye(rows, dtype=torch.bool)
        z = torch.ones(rows, rows) if same is None else 1 - 2.0 * (own & same)
        kept = groups[0][:, None] != groups[1]
        cost = torch.nn.functional.softplus(z * (scale * a @ b.T + bias))
        return cost[kept if same is None else kept | own].sum()

    groups = tuple(torch.randint(kinds, (rows,), generator=random) for _ in range(2))
    leaves = [draw(rows, 3), draw(rows, 3), draw(1)[0].exp(), draw(1)[0]]
    same = None if seed % 3 == 0 else torch.arange(rows) % 3 != seed % 3
    results = []
    for cost in (softplus_cost, whole):
        inputs = [leaf.clone().requires_grad_() for leaf in leaves]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tiles, "TILE", tile)
            patch.setattr(tiles, "FEW", seed)
            value = cost(*inputs, groups, same)
            results.append((value, torch.autograd.grad(3 * value, inputs)))
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("tile", [1, 1 << 20])
def test_differentiating_twice_is_refused_and_not_wrong(tile, monkeypatch):
    monkeypatch.setattr(tiles, "TILE", tile)
    a, one = torch.randn(4, 3, requires_grad=True), torch.tensor(1.0)
    value = softplus_cost(a, a.detach(), one, one, (torch.arange(4),) * 2, None)
    factor = torch.tensor(2.0, requires_grad=True)
    (slope,) = torch.autograd.grad(factor * value, a, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()
