"""A batch of several processes, which are threads here: what they find adds up to the whole."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from losses.test_anchors import LOSSES as OF_ANCHORS
from torch import distributed

from msiam.losses import share as module
from msiam.losses import tiles
from msiam.losses.base import Targets
from msiam.losses.share import Share
from msiam.registry import registry
from msiam.registry.options import parse_options

CPU = torch.device("cpu")
ROWS = 12
LOSSES = [
    *OF_ANCHORS,
    ("infonce", {"directions": "first"}, 2),
    ("infonce", {"directions": "first", "pool": True}, 2),
    ("infonce", {"temperature": 0.01}, 2),  # beyond what exp can take
    ("sigmoid", {}, 2),
    ("batch_contrastive", {}, 1),
    ("batch_contrastive", {}, 2),
    ("batch_contrastive", {"balanced": False}, 2),
    ("triplet", {"miner": "all", "average": "nonzero"}, 1),
    ("matryoshka", {}, 2),
]


class Threads:
    """What ``torch.distributed`` does for processes."""

    ReduceOp = distributed.ReduceOp

    def __init__(self, count: int) -> None:
        self.barrier = threading.Barrier(count, timeout=60)
        self.given: dict[int, torch.Tensor] = {}

    def all_reduce(self, tensor, op=distributed.ReduceOp.SUM):
        self.given[threading.get_ident()] = tensor.clone()
        self.barrier.wait()
        all_given = torch.stack(list(self.given.values()))
        self.barrier.wait()
        largest = op == distributed.ReduceOp.MAX
        tensor.copy_(all_given.amax(0) if largest else all_given.sum(0))


def in_each(counts, work):
    """What work returns by process, given its share of so many rows."""
    group = Threads(len(counts))
    shares = [Share(rows, sum(counts[:rank]), CPU) for rank, rows in enumerate(counts)]

    def one(share):
        try:
            return work(share)
        except BaseException:
            group.barrier.abort()
            raise

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(len(counts)) as pool:
        patch.setattr(module, "distributed", group)
        return list(pool.map(one, shares))


def build(name, options):
    cls = registry().find("loss", name).load()
    return cls(parse_options(cls, options, "loss")).double()


def run(loss, vectors, targets, share=None):
    """Value and gradients, of the rows and of what is learnt, in the order of the batch."""
    before = 0 if share is None else share.before
    leaves = {c: v.roll(-before, 0).requires_grad_() for c, v in vectors.items()}
    turned = Targets(
        {c: g.roll(-before, 0) for c, g in targets.groups.items()},
        *(known if known is None else known.roll(-before, 0) for known in (targets.same, None)),
        anchors=targets.anchors,
        share=share,
    )
    value = loss(leaves, turned)
    of_loss = [p for p in loss.parameters() if p.requires_grad]
    slopes = torch.autograd.grad(value, [*leaves.values(), *of_loss], allow_unused=True)
    rows = [s if share is None else share.in_order(s) for s in slopes[: len(leaves)]]
    learnt = [
        torch.zeros_like(p) if s is None else s
        for p, s in zip(of_loss, slopes[len(leaves) :], strict=True)
    ]
    return [value.detach(), *rows, *learnt]


@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize("tile", [7, 1 << 22])
@pytest.mark.parametrize(("name", "options", "columns"), LOSSES, ids=str)
def test_the_shares_add_up_to_the_batch(name, options, columns, tile, labelled, unit, monkeypatch):
    monkeypatch.setattr(tiles, "TILE", tile)
    number = torch.arange(ROWS)
    names = "abcd"[:columns]
    vectors = {c: unit(ROWS, seed=k) for k, c in enumerate(names)}
    groups = {c: number % 5 if c in "ab" else number % 5 + 10 * k for k, c in enumerate(names)}
    targets = Targets(groups, number % 3 != 1 if labelled else None)
    whole = run(build(name, options), vectors, targets)
    assert build(name, options).shares(columns)
    parts = in_each([5, 1, 6], lambda share: run(build(name, options), vectors, targets, share))
    for found, expected in zip(zip(*parts, strict=True), whole, strict=True):
        torch.testing.assert_close(sum(found), expected, atol=1e-10, rtol=1e-8)


def test_every_loss_whose_rows_meet_others_shares_its_work():
    """All but those that draw at random, which must draw as one process would."""
    for spec in registry().specs("loss"):
        loss = build(spec.name, {})
        for columns in loss.columns:
            if loss.in_batch(columns):
                assert loss.shares(columns), spec.name
    assert not build("triplet", {"miner": "distance_weighted"}).shares(2)
    assert not build("triplet", {}).shares(3)
    assert not build("tuple", {}).shares(3)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=4),
    st.integers(0, 2**30),
    st.sampled_from([1.0, 300.0]),
)
def test_sums_over_processes(counts, seed, scale):
    random = torch.Generator().manual_seed(seed)
    logs = torch.randn(len(counts), sum(counts), generator=random, dtype=torch.float64) * scale
    logs[:, 0] = -torch.inf
    expected = logs.logsumexp(dim=0)

    def work(share):
        mine = logs[before.index(share.before)].roll(-share.before)
        total = share.total(torch.tensor([share.rows, 1]))
        return share.in_order(share.log_total(mine)), total.tolist(), share.total(share.rows)

    before = [sum(counts[:rank]) for rank in range(len(counts))]
    for found, total, rows in in_each(counts, work):
        torch.testing.assert_close(found, expected)
        assert total == [sum(counts), len(counts)] and rows == sum(counts)


def test_alone_a_batch_is_ones_own():
    targets = Targets({})
    count = torch.tensor(3)
    assert targets.asked(4, CPU) is None and targets.own(4) == 4 and targets.total(count) is count
    shared = replace(targets, anchors=torch.tensor([True] * 3 + [False]), share=Share(2, 1, CPU))
    assert shared.asked(4, CPU).tolist() == [True, True, False, False] and shared.own(3) == 2
