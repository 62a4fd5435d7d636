from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from msiam.errors import RecipeError
from msiam.losses import tiles
from msiam.mining.batch import DistanceWeighted, Hard, HardestK, Miner, SemiHard
from msiam.mining.blocks import Pool
from msiam.mining.every import All
from msiam.mining.triplets import list_triplets
from msiam.registry.conformance import check_miner
from msiam.registry.options import Options, parse_options

MINERS = [Hard, HardestK, SemiHard, DistanceWeighted, All]


def made(cls, **options):
    return cls(parse_options(cls, options, "miner"))


def choose(cls, anchors, candidates, mine, theirs, **options) -> list[int]:
    return made(cls, **options).choose(anchors, candidates, mine, theirs).tolist()


def ranked(anchor, group, candidates, theirs) -> dict[int, float]:
    """The squared distances of the candidates of other groups, the nearest first."""
    distances = {
        j: ((anchor - candidate) ** 2).sum().item()
        for j, candidate in enumerate(candidates)
        if theirs[j] != group
    }
    return dict(sorted(distances.items(), key=lambda pair: pair[1]))


def nearest(anchors, candidates, mine, theirs) -> list[int]:
    """The nearest of another group, by brute force; −1 where there is none."""
    each = [ranked(a, g, candidates, theirs) for a, g in zip(anchors, mine, strict=True)]
    return [next(iter(distances), -1) for distances in each]


def drawn(count, others, groups, seed):
    random = torch.Generator().manual_seed(seed)
    anchors = torch.randn(count, 3, generator=random, dtype=torch.float64)
    candidates = torch.randn(others, 3, generator=random, dtype=torch.float64)
    mine = torch.randint(groups, (count,), generator=random)
    return anchors, candidates, mine, torch.randint(groups, (others,), generator=random)


def picked(miner, anchors, candidates, mine, theirs, near, tile=1 << 22):
    """What is picked in all blocks, (A, P, K)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "TILE", tile)
        blocks = list(Pool(anchors, candidates, mine, theirs).blocks(size=1))
    return torch.cat([miner.pick(b, near[b.rows]).reshape(*near[b.rows].shape, -1) for b in blocks])


# ---- Every miner


@pytest.mark.parametrize("cls", MINERS)
def test_conformance(cls):
    check_miner(cls)


@pytest.mark.parametrize("cls", MINERS)
def test_nothing_to_choose_from(cls):
    points, groups = torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64)
    assert choose(cls, points, points, groups, groups) == [-1, -1]
    assert choose(cls, points, points[:0], groups, groups[:0]) == [-1, -1]
    assert choose(cls, points[:0], points, groups[:0], groups) == []


@pytest.mark.parametrize("cls", MINERS)
def test_no_gradient_and_half_precision(cls):
    points = torch.randn(4, 3, dtype=torch.bfloat16).requires_grad_()
    groups = torch.arange(4)
    chosen = made(cls).choose(points, points, groups, groups)
    assert not chosen.requires_grad
    assert (chosen >= 0).all()


@pytest.mark.parametrize("cls", [Hard, SemiHard, DistanceWeighted, All])
def test_its_own_group_is_never_a_negative_though_it_be_nearest(cls):
    points = torch.tensor([[0.0], [0.1], [5.0]])
    groups = torch.tensor([0, 0, 1])
    assert choose(cls, points, points, groups, groups)[:2] == [2, 2]


# ---- Hard


@given(
    st.integers(0, 7), st.integers(0, 9), st.integers(1, 4), st.integers(1, 40), st.integers(0, 99)
)
def test_hard_is_brute_force_whatever_the_size_of_a_tile(count, others, groups, tile, seed):
    given = drawn(count, others, groups, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "TILE", tile)
        for cls in (Hard, HardestK, SemiHard):  # where no positive is known
            assert choose(cls, *given) == nearest(*given)


def test_many_rows():
    random = torch.Generator().manual_seed(0)
    anchors, candidates = (torch.randn(200, 16, generator=random) for _ in range(2))
    groups = torch.arange(200) // 2
    assert choose(Hard, anchors, candidates, groups, groups) == nearest(
        anchors, candidates, groups, groups
    )


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_an_anchor_that_is_no_number_still_gets_a_negative(broken):
    points, groups = torch.full((3, 2), broken), torch.arange(3)
    assert -1 not in choose(Hard, points, points, groups, groups)


# ---- Hardest-k


@given(
    st.integers(1, 7), st.integers(1, 9), st.integers(1, 4), st.integers(1, 12), st.integers(0, 99)
)
def test_the_k_hardest_are_brute_force(count, others, groups, k, seed):
    anchors, candidates, mine, theirs = drawn(count, others, groups, seed)
    near = torch.zeros(count, 2, dtype=torch.float64)
    found = picked(made(HardestK, k=k), anchors, candidates, mine, theirs, near, tile=20)
    for row, anchor in enumerate(anchors):
        right = [*ranked(anchor, mine[row], candidates, theirs)][:k]
        for positive in range(2):  # whichever it is
            assert [n for n in found[row, positive].tolist() if n >= 0] == right


def test_k_is_at_least_one():
    with pytest.raises(RecipeError, match="miner: k: found 0; Input should be greater than 0"):
        made(HardestK, k=0)


# ---- Semi-hard


@given(
    st.integers(1, 7), st.integers(1, 9), st.integers(1, 4), st.integers(1, 5), st.integers(0, 99)
)
def test_semi_hard_is_brute_force(count, others, groups, positives, seed):
    anchors, candidates, mine, theirs = drawn(count, others, groups, seed)
    random = torch.Generator().manual_seed(seed)
    near = 6 * torch.rand(count, positives, generator=random, dtype=torch.float64)
    found = picked(made(SemiHard), anchors, candidates, mine, theirs, near, tile=20)
    for row, anchor in enumerate(anchors):
        distances = ranked(anchor, mine[row], candidates, theirs)
        for place in range(positives):
            beyond = [j for j, d in distances.items() if d > near[row, place]]
            right = (beyond[:1] or [*distances][-1:] or [-1])[0]
            assert found[row, place].tolist() == [right]


def test_as_far_as_the_positive_is_not_farther():
    points = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
    groups = torch.arange(4)
    for near in ([[1.0]], [[1.0, 1.0]]):
        found = picked(made(SemiHard), points[:1], points, groups[:1], groups, torch.tensor(near))
        assert found.flatten().unique().tolist() == [2]


# ---- Distance-weighted


def sphere(count, width, seed=0):
    points = torch.randn(count, width, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(points, dim=1)


def test_distances_are_drawn_as_the_paper_has_it():
    """One anchor, drawn 20,000 times, against the formula a candidate at a time."""
    width, least, most = 8, 0.6, 1.3
    candidates = sphere(40, width)
    candidates[0] = candidates[1] + 0.1 * candidates[0]  # one near the anchor
    candidates[0] /= candidates[0].norm()
    anchor, groups = candidates[1:2], torch.arange(40)
    torch.manual_seed(0)
    miner = made(DistanceWeighted, least=least, most=most)
    near = torch.zeros(1, 20_000)
    found = picked(miner, anchor, candidates, groups[1:2], groups, near).flatten()
    right = []
    for number, candidate in enumerate(candidates):
        d = max((anchor[0] - candidate).norm().item(), least)
        density = d ** (width - 2) * (1 - d**2 / 4) ** ((width - 3) / 2)
        right.append(0 if number == 1 or d > most else 1 / density)
    share = found.bincount(minlength=40) / len(found)
    torch.testing.assert_close(share, torch.tensor(right) / sum(right), rtol=0, atol=0.02)
    assert share[0] > 0.2 and not share[torch.tensor(right) == 0].any()


def test_where_all_lie_beyond_each_is_as_likely():
    candidates = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [-0.6, 0.8], [-0.6, -0.8]])
    torch.manual_seed(0)
    found = picked(
        made(DistanceWeighted),
        candidates[:1],
        candidates,
        torch.tensor([0]),
        torch.arange(4),
        torch.zeros(1, 6000),
    )
    share = found.flatten().bincount(minlength=4) / 6000
    torch.testing.assert_close(share, torch.tensor([0, 1 / 3, 1 / 3, 1 / 3]), rtol=0, atol=0.03)


@pytest.mark.parametrize("width", [1, 2, 3, 1024])
def test_any_width_and_candidates_on_top_of_the_anchor_or_opposite(width):
    points = sphere(6, width)
    points[1], points[2] = points[0], -points[0]
    groups = torch.arange(6)
    assert -1 not in choose(DistanceWeighted, points, points, groups, groups, most=3.0)
    assert -1 not in choose(DistanceWeighted, points, points, groups, groups)


def test_another_seed_is_another_draw():
    points, groups = sphere(50, 4), torch.arange(50)
    draws = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        draws.append(choose(DistanceWeighted, points, points, groups, groups))
    assert draws[0] == draws[1] != draws[2]


# ---- A miner that has no more than choose


class Last(Miner):
    """A plugin's: the last candidate of another group."""

    def choose(self, anchors, candidates, anchor_groups, candidate_groups):
        assert torch.equal(candidates, POINTS)  # as they are, and in the loss's own order
        allowed = anchor_groups[:, None] != candidate_groups
        numbers = torch.arange(len(candidates)).expand_as(allowed)
        return numbers.masked_fill(~allowed, -1).amax(dim=1)


POINTS = sphere(5, 3)


@pytest.mark.parametrize("positives", ["hardest", "all"])
def test_its_choice_is_taken_for_every_positive(positives):
    groups, negative = torch.tensor([0, 0, 1, 0, 1]), [4, 4, 3, 4, 3]
    distance = torch.cdist(POINTS, POINTS) ** 2
    pairs = [(i, p) for i in range(5) for p in range(5) if i != p and groups[i] == groups[p]]
    if positives == "hardest":
        each = [[pair for pair in pairs if pair[0] == i] for i in range(5)]
        pairs = [max(some, key=lambda pair: distance[pair].item()) for some in each]
    pool = (POINTS, POINTS, groups, groups, None)
    anchors, *rest = list_triplets(Last(Options()), Pool(*pool), positives)
    # Of a miner with one negative for each anchor, they are all anchors in order.
    assert (anchors is None) == (positives == "hardest")
    anchors = torch.arange(5) if anchors is None else anchors
    listed = torch.stack([anchors, *rest], dim=1).tolist()
    assert listed == [[i, p, negative[i]] for i, p in pairs]
    cost, count, costly = Last(Options()).total(pool, positives, "squared", 9.0)
    assert count == costly == len(pairs)
    right = sum(distance[i, p] - distance[i, negative[i]] + 9 for i, p in pairs)
    torch.testing.assert_close(cost, right)
