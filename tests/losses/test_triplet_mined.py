"""The triplets of a batch, enumerated by hand: every miner, of one column and of two."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from msiam.losses import tiles
from msiam.losses.base import Targets
from msiam.losses.triplet import Triplet
from msiam.registry.options import parse_options

KINDS = ["squared", "euclidean", "cosine"]
GROUPS = [0, 1, 2, 0, 1, 5, 0, 7, 1]
SAME = [True, True, False, True, False, True, True, False, True]


def distance(a, b, kind):
    if kind == "cosine":
        return 1 - (a @ b) / (a.norm() * b.norm())
    squared = ((a - b) ** 2).sum()
    return squared if kind == "squared" else squared.sqrt()


def positives_of(i, a, b, mine, theirs, same, which):
    """Which candidates are anchor i's positives; ``same`` is None for one column."""
    own = [i] if same is not None and same[i] else []
    if which == "row":
        return own
    others = [j for j in range(len(b)) if j != i and theirs[j] == mine[i]]
    found = sorted(others + own)
    if which == "hardest" and found:
        return [max(found, key=lambda j: distance(a[i], b[j], "squared").item())]
    return found


def negatives_of(i, p, a, b, mine, theirs, miner, margin, kind):
    """Which candidates the miner takes as negatives for anchor i with positive p."""
    others = [j for j in range(len(b)) if theirs[j] != mine[i]]
    others.sort(key=lambda j: distance(a[i], b[j], kind).item())
    near = distance(a[i], b[p], kind)
    farther = [j for j in others if distance(a[i], b[j], kind) > near]
    if miner["name"] == "hardest_k":
        return others[: miner["k"]]
    if miner["name"] == "hard":
        return others[:1]
    if miner["name"] == "semi_hard":
        return farther[:1] or others[-1:]
    if miner.get("negatives") == "semi_hard":
        return [j for j in farther if distance(a[i], b[j], kind) < near + margin]
    if miner.get("negatives") == "hard":
        return [j for j in others if distance(a[i], b[j], kind) < near]
    return others


def reference(groups, same, miner, positives, kind="squared", margin=0.2, soft=False, average=None):
    """The mean over all triplets, one at a time; two columns where two are given."""
    margin_of_miner = float("inf") if soft else margin

    def cost(a, *rest):
        b = rest[0] if rest else a
        mine, theirs = groups[0], groups[-1]
        total, count = (a * 0).sum() + (b * 0).sum(), 0
        rows = (same or [True] * len(a)) if rest else None
        for i in range(len(a)):
            for p in positives_of(i, a, b, mine, theirs, rows, positives):
                for n in negatives_of(i, p, a, b, mine, theirs, miner, margin_of_miner, kind):
                    nearer = distance(a[i], b[p], kind) - distance(a[i], b[n], kind)
                    one = (1 + nearer.exp()).log() if soft else (nearer + margin).clamp(min=0)
                    total, count = total + one, count + int(average != "nonzero" or one > 0)
        return total / max(count, 1)

    return cost


@pytest.fixture
def run(make):
    """The loss as a function of one matrix or of two."""

    def run(groups, same, miner, positives, kind="squared", **options):
        module = make(Triplet, miner=miner, positives=positives, distance=kind, **options)
        columns = "ab"[: len(groups)]
        numbers = dict(zip(columns, map(torch.tensor, groups), strict=True))
        labels = None if same is None else torch.tensor(same)
        return lambda *v: module(dict(zip(columns, v, strict=True)), Targets(numbers, labels))

    return run


def two(groups, same):
    """The groups of two columns: a row that is not the same has a partner that nobody else has."""
    others = [g if s else 100 + i for i, (g, s) in enumerate(zip(groups, same, strict=True))]
    return [groups, others]


MINERS = [
    {"name": "hard"},
    {"name": "hardest_k", "k": 2},
    {"name": "hardest_k", "k": 50},
    {"name": "semi_hard"},
    {"name": "all"},
    {"name": "all", "negatives": "semi_hard"},
    {"name": "all", "negatives": "hard"},
]
IDS = ["-".join(map(str, miner.values())) for miner in MINERS]


@pytest.mark.parametrize("average", ["all", "nonzero"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("positives", ["hardest", "all"])
@pytest.mark.parametrize("miner", MINERS, ids=IDS)
def test_one_column(run, agree, unit, miner, positives, kind, average):
    given = [GROUPS], None, miner, positives, kind
    options = {"margin": 0.4, "average": average}
    agree(run(*given, **options), reference(*given, **options), unit(9))


@pytest.mark.parametrize("same", [None, SAME])
@pytest.mark.parametrize("positives", ["row", "hardest", "all"])
@pytest.mark.parametrize("miner", MINERS, ids=IDS)
def test_two_columns(run, agree, unit, miner, positives, same):
    groups = two(GROUPS, same or [True] * 9)
    for kind, average in zip(KINDS, ["all", "nonzero", "nonzero"], strict=True):
        given = groups, same, miner, positives, kind
        options = {"margin": 0.4, "average": average}
        agree(run(*given, **options), reference(*given, **options), unit(9), unit(9, seed=1))


@pytest.mark.parametrize("positives", ["row", "all"])
@pytest.mark.parametrize("miner", MINERS, ids=IDS)
def test_columns_of_one_tower_share_their_items(run, agree, unit, of_one_tower, miner, positives):
    given = two(GROUPS[:7], SAME[:7]), SAME[:7], miner, positives, "squared"
    cost, right = run(*given, margin=0.4), reference(*given, margin=0.4)
    agree(of_one_tower(cost, 2), of_one_tower(right, 2), unit(5), dtype=torch.float64)


@pytest.mark.parametrize("columns", [1, 2])
@pytest.mark.parametrize("miner", MINERS, ids=IDS)
def test_a_soft_margin(run, agree, unit, miner, columns):
    groups = [GROUPS] if columns == 1 else two(GROUPS, SAME)
    given = groups, None if columns == 1 else SAME, miner, "all", "euclidean"
    vectors = [unit(9, seed=seed) for seed in range(columns)]
    agree(run(*given, soft=True), reference(*given, soft=True), *vectors)


@pytest.mark.parametrize("columns", [1, 2])
@pytest.mark.parametrize("margin", [0.01, 1.0, 9.0])
@pytest.mark.parametrize("tile", [1, 150, 500, 1 << 22])
def test_margins_and_blocks(run, agree, unit, monkeypatch, margin, tile, columns):
    monkeypatch.setattr(tiles, "TILE", tile)
    groups = [GROUPS] if columns == 1 else two(GROUPS, SAME)
    same = None if columns == 1 else SAME
    vectors = [unit(9, seed=seed) for seed in range(columns)]
    for miner, which in itertools.product(MINERS[::2], ["hardest", "all"]):
        given = groups, same, miner, which, "squared"
        agree(run(*given, margin=margin), reference(*given, margin=margin), *vectors)


@pytest.mark.parametrize(
    ("miner", "columns", "positives"),
    [
        ("hard", 1, "hardest"),
        ("hardest_k", 1, "hardest"),
        ("semi_hard", 1, "all"),
        ("distance_weighted", 1, "all"),
        ("all", 1, "all"),
        ("hard", 2, "row"),
        ("semi_hard", 2, "row"),
        ("all", 2, "all"),
    ],
)
def test_which_positives_are_met_unless_told_otherwise(run, unit, miner, columns, positives):
    groups, vectors = [GROUPS] * columns, [unit(9, seed=seed) for seed in range(columns)]
    values = []
    for which in (None, positives):
        torch.manual_seed(0)
        values.append(run(groups, None, miner, which, margin=2.0)(*vectors))
    assert torch.equal(*values)


def test_a_partner_that_is_labelled_not_the_same_is_no_positive_and_no_negative(run, agree, unit):
    """Though it be of the anchor's group, by way of other rows."""
    same = [True, False, True, True]
    given = [[0, 0, 1, 2], [0, 0, 1, 2]], same, {"name": "all"}, "all"
    agree(run(*given), reference(*given), unit(4), unit(4, seed=1))


def test_a_partner_of_another_group_is_no_negative(run, agree, unit):
    """Groups that were not told about the rows' own pairs."""
    given = [[0, 1, 2], [10, 11, 12]], None, {"name": "hard"}, "row"
    own = [[0, 1, 2], [0, 1, 2]], *given[1:]
    agree(run(*given, margin=4.0), reference(*own, margin=4.0), unit(3), unit(3, seed=1))


@settings(max_examples=40)
@given(
    rows=st.integers(1, 8),
    kinds=st.integers(1, 4),
    columns=st.integers(1, 2),
    miner=st.sampled_from(MINERS),
    positives=st.sampled_from(["hardest", "all"]),
    tile=st.integers(1, 400),
    seed=st.integers(0, 99),
)
def test_any_batch(rows, kinds, columns, miner, positives, tile, seed):
    random = torch.Generator().manual_seed(seed)
    groups = [torch.randint(kinds, (rows,), generator=random).tolist()] * columns
    vectors = [torch.randn(rows, 3, generator=random, dtype=torch.float64) for _ in range(columns)]
    options = {"miner": miner, "positives": positives, "distance": "euclidean", "margin": 0.5}
    module = Triplet(parse_options(Triplet, options, "loss"))
    numbers = dict(zip("ab", map(torch.tensor, groups), strict=False))
    leaves = [vector.clone().requires_grad_() for vector in vectors]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "TILE", tile)
        value = module(dict(zip("ab", leaves, strict=False)), Targets(numbers))
    right = reference(groups, None, miner, positives, "euclidean", 0.5)(*leaves)
    torch.testing.assert_close(value, right)
    slopes = torch.autograd.grad(value, leaves), torch.autograd.grad(right, leaves)
    torch.testing.assert_close(*slopes)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("miner", MINERS, ids=IDS)
def test_gradcheck(run, unit, miner, kind):
    leaves = [unit(9, seed=seed).requires_grad_() for seed in range(2)]
    groups = two(GROUPS, SAME)
    for soft in (False, True):
        cost = run(groups, SAME, miner, "all", kind, margin=1.0, soft=soft)
        assert torch.autograd.gradcheck(cost, leaves)


def test_distance_weighted_draws_negatives_and_is_differentiable(run, unit):
    leaves = [unit(9, seed=seed).requires_grad_() for seed in range(2)]
    for positives in ("row", "hardest", "all"):
        cost = run([GROUPS] * 2, None, "distance_weighted", positives, margin=2.0)

        def seeded(*vectors, cost=cost):
            torch.manual_seed(0)
            return cost(*vectors)

        assert torch.autograd.gradcheck(seeded, leaves)


@pytest.mark.parametrize("miner", MINERS, ids=IDS)
def test_without_a_positive_or_a_negative_it_costs_nothing(run, unit, value_and_gradients, miner):
    for groups, positives in itertools.product(([0] * 4, [0, 1, 2, 3], [0]), ("hardest", "all")):
        cost = run([groups], None, miner, positives)
        value, gradients = value_and_gradients(cost, unit(len(groups)))
        assert value == 0
        assert not gradients[0].any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["all", "semi_hard", "hard"])
def test_embeddings_that_coincide(run, unit, value_and_gradients, kind, name):
    """Items that occur twice, and a model whose embeddings have all become one."""
    twice = unit(5, dtype=torch.float32).repeat(2, 1)
    for vectors in (twice, twice[:1].expand(10, -1), 50 + 1e-3 * twice):
        cost = run([[*range(5)] * 2], None, name, "all", kind)
        value, gradients = value_and_gradients(cost, vectors)
        assert value.isfinite()
        assert gradients[0].isfinite().all()
    cost = run([[*range(5)] * 2], None, name, "all", kind, margin=0.1)
    right = reference([[*range(5)] * 2], None, {"name": name}, "all", kind, 0.1)
    torch.testing.assert_close(cost(twice), right(twice), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["all", "semi_hard"])
def test_in_bf16_and_strided_and_in_autocast(run, unit, value_and_gradients, name):
    rough = unit(9, dtype=torch.bfloat16)
    cost = run([GROUPS], None, name, "all", "euclidean")
    right, slopes = value_and_gradients(cost, rough.float())
    value, gradients = value_and_gradients(cost, rough)
    torch.testing.assert_close(value, right)
    assert gradients[0].dtype == torch.bfloat16
    torch.testing.assert_close(gradients[0].float(), slopes[0], rtol=0.01, atol=0.01)
    exact = rough.float()
    torch.testing.assert_close(cost(torch.cat([exact, exact], dim=1)[:, :6]), right)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value, gradients = value_and_gradients(cost, exact)
    torch.testing.assert_close((value, gradients[0]), (right, slopes[0]))


def test_it_cannot_be_differentiated_twice(run, unit):
    a = unit(9).requires_grad_()
    factor = torch.tensor(2.0, requires_grad=True, dtype=torch.float64)
    cost = run([GROUPS], None, "all", "all")(a)
    (slope,) = torch.autograd.grad(factor * cost, a, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


@pytest.mark.parametrize("miner", MINERS, ids=IDS)
@pytest.mark.parametrize("broken", [float("nan"), float("inf"), 1e30])
def test_what_is_no_number_is_not_hidden(run, unit, miner, broken):
    for positives in ("hardest", "all"):
        vectors = unit(9, dtype=torch.float32)
        vectors[5] *= broken  # an item with no positive
        assert not run([GROUPS], None, miner, positives)(vectors).isfinite()
