"""Rows that ask and rows that are candidates alone, in the losses of the core that compare rows.

Where each row counts alike, what a batch costs is the mean of what it costs when one row asks at a
time. The references of whole batches are in the tests of each loss.
"""

from __future__ import annotations

import pytest
import torch

from msiam.losses import tiles
from msiam.losses.base import Targets
from msiam.registry import registry
from msiam.registry.options import parse_options

#: Of two classes of three, so that each item has as many positives and negatives as any other.
CLASSES = torch.tensor([0, 1, 1, 0, 1, 0])
ALL = {"name": "all"}
LOSSES = [
    ("infonce", {}, 2),
    ("infonce", {"pool": True}, 2),
    *(
        (name, {}, columns)
        for name in ("supcon", "multi_similarity", "circle")
        for columns in (1, 2)
    ),
    *((name, {"pool": True}, 2) for name in ("supcon", "multi_similarity", "circle")),
    *(
        ("triplet", {"miner": miner, "positives": positives, "margin": 9.0}, columns)
        for miner in ("hard", "semi_hard", {"name": "hardest_k", "k": 2}, ALL)
        for positives in ("hardest", "all")
        for columns in (1, 2)
    ),
    ("triplet", {"miner": ALL, "soft": True}, 1),
    ("triplet", {"positives": "row", "distance": "cosine"}, 2),
    ("tuple", {"in_batch": True}, 3),
    ("tuple", {"in_batch": True}, 4),
]
SAME = torch.tensor([True, False, True, False, True, True])
NAMES = [f"{name} {options} {columns}" for name, options, columns in LOSSES]


def batch(columns, unit, same=None):
    """Embeddings and targets; a third column and those after it hold negatives."""
    names = "abcd"[:columns]
    groups = {c: CLASSES if c in "ab" else CLASSES + 10 * k for k, c in enumerate(names)}
    return {c: unit(6, seed=k) for k, c in enumerate(names)}, Targets(groups, same)


def asked(targets, *rows):
    anchors = torch.zeros(6, dtype=torch.bool)
    anchors[list(rows)] = True
    return Targets(targets.groups, targets.same, anchors=anchors)


@pytest.fixture
def build():
    def build(name, options):
        cls = registry().find("loss", name).load()
        return cls(parse_options(cls, options, "loss"))

    return build


@pytest.mark.parametrize("tile", [7, 1 << 22])
@pytest.mark.parametrize(("name", "options", "columns"), LOSSES, ids=NAMES)
def test_a_batch_is_the_mean_of_its_rows(
    name, options, columns, tile, build, unit, value_and_gradients, monkeypatch
):
    monkeypatch.setattr(tiles, "TILE", tile)
    loss = build(name, options)
    vectors, targets = batch(columns, unit)

    def run(targets):
        return lambda *v: loss(dict(zip(vectors, v, strict=True)), targets)

    whole = value_and_gradients(run(targets), *vectors.values())
    everybody = value_and_gradients(run(asked(targets, *range(6))), *vectors.values())
    torch.testing.assert_close(everybody, whole)
    singles = [run(asked(targets, row)) for row in range(6)]
    mean = value_and_gradients(lambda *v: sum(one(*v) for one in singles) / 6, *vectors.values())
    torch.testing.assert_close(mean, whole)
    some = value_and_gradients(run(asked(targets, 1, 4, 5)), *vectors.values())
    three = value_and_gradients(
        lambda *v: sum(singles[row](*v) for row in (1, 4, 5)) / 3, *vectors.values()
    )
    torch.testing.assert_close(some, three)


@pytest.mark.parametrize(("name", "options", "columns"), LOSSES, ids=NAMES)
def test_where_nobody_asks_it_costs_nothing(
    name, options, columns, build, unit, value_and_gradients
):
    vectors, targets = batch(columns, unit)
    loss, nobody = build(name, options), asked(targets)
    value, gradients = value_and_gradients(
        lambda *v: loss(dict(zip(vectors, v, strict=True)), nobody), *vectors.values()
    )
    assert value == 0
    assert not any(gradient.any() for gradient in gradients)


@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize("name", ["supcon", "multi_similarity", "circle"])
def test_a_label_holds_for_the_row_that_asks_and_for_its_candidates(name, pool, build, unit):
    """A candidate's row may be labelled too: of its own partner, and of nobody else."""
    vectors, targets = batch(2, unit, SAME)
    loss = build(name, {"pool": pool})
    order = torch.tensor([3, 5, 0, 1, 4, 2])
    moved = Targets({c: g[order] for c, g in targets.groups.items()}, SAME[order])
    other = {c: v[order] for c, v in vectors.items()}
    right = loss(vectors, asked(targets, 1, 4))
    torch.testing.assert_close(loss(other, asked(moved, 3, 4)), right)
    one, two = loss(vectors, asked(targets, 1)), loss(vectors, asked(targets, 4))
    if name == "multi_similarity":  # of which every anchor counts
        torch.testing.assert_close(right, (one + two) / 2)
