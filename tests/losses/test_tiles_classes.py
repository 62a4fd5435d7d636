from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from memory import growth

from msiam.losses import tiles
from msiam.losses.tiles_classes import class_sums


def dense(items, weights, labels, scale, of):
    items, weights = (t / t.norm(dim=1, keepdim=True) for t in (items, weights))
    cosines = weights @ items.T
    own = torch.arange(len(weights))[:, None] == labels
    others = (scale * cosines).masked_fill(own, -torch.inf)
    # A sum of nothing has no gradient, and log-sum-exp none that is a number.
    dim = 0 if of == "items" else 1
    empty = own.all(dim=dim, keepdim=True)
    sums = others.masked_fill(empty, 0).logsumexp(dim)
    return cosines[labels, torch.arange(len(items))], sums.masked_fill(empty.squeeze(dim), 0)


@pytest.mark.parametrize("of", ["items", "classes"])
@given(
    st.lists(st.integers(0, 5), max_size=8),
    st.integers(1, 40),
    st.integers(0, 3),
    st.integers(0, 9),
)
def test_it_is_the_dense_sums_whatever_the_size_of_a_block(of, labels, tile, more, seed):
    random = torch.Generator().manual_seed(seed)
    classes = max(labels, default=0) + 1 + more
    labels = torch.tensor(labels, dtype=torch.long)
    items = torch.randn(len(labels), 3, generator=random, dtype=torch.float64)
    weights = torch.randn(classes, 3, generator=random, dtype=torch.float64)
    upstream = torch.randn(100, generator=random, dtype=torch.float64)
    results = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "TILE", tile)
        for function in (class_sums, dense):
            leaves = [t.clone().requires_grad_() for t in (items, weights)]
            cosines, sums = function(*leaves, labels, 4.0, of)
            sums = sums.masked_fill(sums.isneginf(), 0)
            total = (cosines * upstream[: len(cosines)]).sum() + (
                sums * upstream[-len(sums) :] if len(sums) else sums
            ).sum()
            results.append([cosines, sums, *torch.autograd.grad(total, leaves)])
    for found, right in zip(*results, strict=True):
        torch.testing.assert_close(found, right)


STEP = """
from msiam.losses.tiles_classes import class_sums

def step(rows, classes):
    items = torch.nn.functional.normalize(torch.randn(rows, 8), dim=1).requires_grad_()
    weights = torch.randn(classes, 8, requires_grad=True)
    labels = torch.randint(classes, (rows,))
    for of in ("items", "classes"):
        cosines, sums = class_sums(items, weights, labels, 4.0, of)
        (cosines.sum() + sums.sum()).backward()
"""


def test_1024_items_of_100_000_classes_take_no_matrix():
    matrix = 4 * 1024 * 100_000  # of float32: 391 MiB
    assert growth(STEP, "step(64, 64)", "step(1024, 100_000)") < matrix / 4
