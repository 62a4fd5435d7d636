from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from msiam.losses import tiles
from msiam.losses.base import Targets
from msiam.losses.sides import Pairs, Side, matched
from msiam.losses.tiles_groups import LogSum, sums_over

SUMS = [
    LogSum("positives", lambda s: -2 * s, lambda s: -2),
    LogSum("negatives", lambda s: s**2, lambda s: 2 * s),
    LogSum("all", lambda s: s / 2, lambda s: 0.5),
]


def masks(pairs: Pairs) -> dict[str, torch.Tensor]:
    """Which pairs there are of each kind, (N, M) booleans, a pair at a time."""
    shape = len(pairs.rows), len(pairs.columns)
    there, positive = torch.ones(shape, dtype=torch.bool), torch.zeros(shape, dtype=torch.bool)
    for i in range(shape[0]):
        for j in range(shape[1]):
            there[i, j] = pairs.itself is None or pairs.itself[i] != j
            positive[i, j] = pairs.rows[i] == pairs.columns[j]
            if pairs.partner is not None and pairs.partner[i] == j:
                positive[i, j] = pairs.same[i]
    return {"positives": there & positive, "negatives": there & ~positive, "all": there}


def log_sum(exponents, kept, dim):
    """log Σ exp along a dimension, −∞ where nothing is kept; with a gradient there as well, 0."""
    nothing = ~kept.any(dim, keepdim=True)
    filled = exponents.masked_fill(~kept, -torch.inf).masked_fill(nothing, 0)
    return filled.logsumexp(dim).masked_fill(nothing.squeeze(dim), -torch.inf)


def dense(sides, anchors):
    """sums_over SUMS, and the totals, with the whole matrix at hand, of the anchors."""
    ((a, b, pairs),) = sides
    s, kept = a @ b.T, masks(pairs)
    chosen = torch.ones(len(a), dtype=torch.bool)
    if anchors is not None:
        chosen = anchors if len(anchors) == len(a) else torch.cat([anchors, anchors])
    dims = (1, 0) if pairs.both else (1,)
    sums = [
        [log_sum(term.exponent(s), kept[term.over], dim)[chosen] for term in SUMS] for dim in dims
    ]
    count = [kept["positives"].sum(dim)[chosen] for dim in dims]
    total = [(s * kept["positives"]).sum(dim)[chosen] for dim in dims]
    return sums, [(t, c.to(s.dtype)) for t, c in zip(total, count, strict=True)]


@given(st.data(), st.integers(1, 8), st.integers(1, 100), st.integers(1, 6), st.integers(0, 99))
def test_it_is_the_dense_sums_whatever_the_size_of_a_tile(data, rows, tile, kinds, seed):
    columns = data.draw(st.sampled_from(["one", "two", "pool"]))
    labelled, some = data.draw(st.booleans()), data.draw(st.booleans())
    random = torch.Generator().manual_seed(seed)
    names = "a" if columns == "one" else "ab"
    long = data.draw(st.sampled_from([0.3, 1.0, 4.0]))  # of some, exp would overflow or vanish
    draw = {n: long * torch.randn(rows, 3, generator=random, dtype=torch.float64) for n in names}
    groups = {n: torch.randint(kinds, (rows,), generator=random) for n in names}
    same = torch.randint(2, (rows,), generator=random).bool() if labelled else None
    anchors = torch.randint(2, (rows,), generator=random).bool() if some else None
    results = []
    for exact in (False, True):
        leaves = {n: v.clone().requires_grad_() for n, v in draw.items()}
        asking = None if exact else anchors
        sides = matched(leaves, Targets(groups, same, anchors=asking), pool=columns == "pool")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tiles, "TILE", tile)
            if exact:
                sums, means = dense(sides, anchors)
            else:
                every = sums_over(sides, SUMS, totals=True)
                sums = [list(way) for found in every for way in zip(*found.log_sums, strict=True)]
                means = [
                    way for found in every for way in zip(found.total, found.count, strict=True)
                ]
            found = [part for side in sums for part in side]
            finite = [part.masked_fill(part.isneginf(), 0) for part in found]
            cost = sum((1 + k) * part.sum() for k, part in enumerate(finite))
            cost = cost + sum(mean.pow(2).sum() for mean, _ in means)
            results.append((found, means, torch.autograd.grad(cost, list(leaves.values()))))
    torch.testing.assert_close(*results)


def test_differentiating_twice_is_refused_and_not_wrong():
    a = torch.randn(4, 3, requires_grad=True)
    pairs = Pairs(torch.arange(4), torch.arange(4))
    value = sums_over([Side(a, a.detach(), pairs)], SUMS)[0].log_sums[1].sum()
    factor = torch.tensor(2.0, requires_grad=True)
    (slope,) = torch.autograd.grad(factor * value, a, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()
