"""Hard negatives of a gallery, beside a search through all of it, one candidate after the other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msiam.errors import RecipeError
from msiam.mining import negatives
from msiam.mining.negatives import REASONS, Candidates, Queries, Rules, find_negatives


def searching(vectors, cut=None):
    """An exact search, ties by position; with ``cut`` it finds no more than so many."""

    def search(queries, k):
        scores = queries @ vectors.T
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        found = np.take_along_axis(scores, order, 1)
        if cut is not None:
            order[:, cut:], found[:, cut:] = -1, -np.inf
        return found, order

    return search


def unit(rng, n, dim=4):
    """Nearly so: in 64ths, so that products are exact and ties are ties in blocks of any size."""
    vectors = rng.normal(size=(n, dim)).astype(np.float32)
    return np.round(64 * vectors / np.linalg.norm(vectors, axis=1, keepdims=True)) / np.float32(64)


def drawn(seed, pairs, items, groups, cut=None):
    """Pairs whose positives are items of the gallery, of a few groups and a few contents."""
    rng = np.random.default_rng(seed)
    gallery = unit(rng, items)
    kinds = items + items // 4  # contents: many items have one alone, and some share one
    contents = rng.integers(0, kinds, items)
    candidates = Candidates(
        searching(gallery, cut), contents, rng.integers(-1, groups, kinds), rng.random(kinds) < 0.1
    )
    anchors, positives = unit(rng, pairs), rng.integers(0, items, pairs)
    which = rng.integers(0, pairs, pairs)
    queries = Queries(
        anchors,
        which,
        np.einsum("nd,nd->n", anchors[which], gallery[positives]),
        rng.integers(0, groups, pairs),
        np.stack([rng.integers(0, kinds, pairs), contents[positives]], axis=1),
    )
    return queries, candidates


def by_hand(queries, candidates, rules, row):
    """(position, score) of what may be taken, the nearest first, and what was dropped."""
    scores, order = candidates.search(queries.vectors[queries.anchors[row]][None], len(candidates))
    bound = queries.scores[row]
    rank, eligible, dropped = 0, [], dict.fromkeys(REASONS, 0)
    for score, position in zip(scores[0], order[0], strict=True):
        if rank == rules.range or position < 0:
            break
        content = candidates.contents[position]
        if candidates.held_out[content]:
            dropped["held_out"] += 1
            continue
        if candidates.groups[content] == queries.groups[row]:
            dropped["known"] += 1
            continue
        if content in queries.contents[row]:
            dropped["duplicate"] += 1
            continue
        rank += 1
        if rank <= rules.skip:
            dropped["skipped"] += 1
        elif rules.max_score is not None and score > np.float32(rules.max_score):
            dropped["max_score"] += 1
        elif rules.margin is not None and score > bound - np.float32(rules.margin):
            dropped["margin"] += 1
        elif rules.relative_margin is not None and (
            score > bound - np.float32(rules.relative_margin) * abs(bound)
        ):
            dropped["relative_margin"] += 1
        else:
            eligible.append((int(position), float(score)))
    return eligible, dropped


bounds = st.one_of(st.none(), st.floats(0, 0.9))


@st.composite
def rules_of(draw, sample="top"):
    k, skip = draw(st.integers(1, 4)), draw(st.integers(0, 3))
    return Rules(
        negatives=k,
        skip=skip,
        range=draw(st.integers(k + skip, 40)),
        max_score=draw(bounds),
        margin=draw(bounds),
        relative_margin=draw(bounds),
        sample=sample,
    )


cases = st.builds(
    drawn,
    st.integers(0, 10**6),
    st.integers(1, 20),
    st.integers(1, 80),
    st.integers(1, 4),
    st.one_of(st.none(), st.integers(1, 30)),
)


@settings(deadline=None, max_examples=150)
@given(cases, rules_of(), st.integers(1, 2000))
def test_the_nearest_are_those_that_one_finds_by_hand(case, rules, cells):
    queries, candidates = case
    before, negatives.CELLS = negatives.CELLS, cells  # blocks of any size, one pair at least
    try:
        found = find_negatives(queries, candidates, rules)
    finally:
        negatives.CELLS = before
    total = dict.fromkeys(REASONS, 0)
    for row in range(len(queries)):
        eligible, dropped = by_hand(queries, candidates, rules, row)
        total = {reason: total[reason] + dropped[reason] for reason in REASONS}
        wanted = [position for position, _ in eligible[: rules.negatives]]
        got = found.positions[row][found.there[row]]
        assert got.tolist() == wanted
        assert found.scores[row][: len(wanted)].tolist() == [s for _, s in eligible[: len(wanted)]]
        assert (found.scores[row][len(wanted) :] == -np.inf).all()
    assert found.dropped == total


@settings(deadline=None, max_examples=60)
@given(cases, rules_of("random"), st.integers(1, 2000))
def test_random_ones_are_eligible_ordered_and_do_not_depend_on_blocks(case, rules, cells):
    queries, candidates = case
    found = find_negatives(queries, candidates, rules)
    before, negatives.CELLS = negatives.CELLS, cells
    try:
        again = find_negatives(queries, candidates, rules)
    finally:
        negatives.CELLS = before
    assert np.array_equal(found.positions, again.positions)
    for row in range(len(queries)):
        eligible = [position for position, _ in by_hand(queries, candidates, rules, row)[0]]
        got = found.positions[row][found.there[row]].tolist()
        assert len(got) == min(rules.negatives, len(eligible))
        assert got == [position for position in eligible if position in got]


def test_another_seed_draws_others_and_each_candidate_is_drawn_about_as_often():
    queries, candidates = drawn(0, 1, 60, 4)
    counts = np.zeros(60, int)
    for seed in range(600):
        rules = Rules(negatives=1, range=20, sample="random", seed=seed)
        counts[find_negatives(queries, candidates, rules).positions[0, 0]] += 1
    assert (counts > 0).sum() == 20  # of 20 ranks, each one
    assert counts.max() < 60  # where 30 are to be expected


def test_a_pair_with_many_known_positives_is_searched_for_deeper():
    """All but the farthest three of 500 belong to the anchor."""
    vectors = np.stack([np.array([np.cos(t), np.sin(t)]) for t in np.linspace(0, 3, 500)])
    groups = np.where(np.arange(500) < 497, 0, 1)
    depths = []

    def search(queries, k):
        depths.append(k)
        return searching(vectors.astype(np.float32))(queries, k)

    candidates = Candidates(search, np.arange(500), groups, np.zeros(500, bool))
    queries = Queries(
        vectors[:1].astype(np.float32), np.zeros(2, int), np.ones(2, np.float32),
        np.array([0, 1]), np.array([[0, 1], [499, 498]]),
    )  # fmt: skip
    found = find_negatives(queries, candidates, Rules(negatives=3, range=10))
    assert found.positions.tolist() == [[497, 498, 499], [0, 1, 2]]
    assert depths == [26, 104, 416, 500]
    assert found.dropped["known"] == 497


def test_the_twin_of_another_positive_is_no_negative():
    """Items 0 and 1 are of one content; the pair has another positive of their group."""
    vectors = np.array([[0.9], [0.9], [0.1]], np.float32)
    candidates = Candidates(
        searching(vectors), np.array([1, 1, 2]), np.array([0, 0, -1]), np.zeros(3, bool)
    )
    queries = Queries(
        np.ones((1, 1), np.float32), np.zeros(1, int), np.array([0.95], np.float32),
        np.zeros(1, int), np.array([[5, 0]]),
    )  # fmt: skip
    found = find_negatives(queries, candidates, Rules(negatives=2))
    assert found.positions.tolist() == [[2, -1]] and found.dropped["known"] == 2


def test_progress_counts_each_pair_once():
    queries, candidates = drawn(3, 20, 80, 2)
    done = []
    find_negatives(queries, candidates, Rules(), done.append)
    assert sum(done) == len(queries)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"negative": 3}, "mine: negative: no such key; did you mean 'negatives'"),
        ({"negatives": 0}, "mine: negatives: found 0"),
        ({"negatives": 5, "skip": 6, "range": 10}, "mine: range: found 10; skip and negatives"),
        ({"negatives": 200}, "mine: range: found 100; skip and negatives together are 200"),
        ({"sample": "best"}, "mine: sample: found 'best'"),
        ({"relative_margin": 1}, "mine: relative_margin: found 1"),
        ({"margin": -0.1}, "mine: margin: found -0.1"),
    ],
)
def test_rules_that_cannot_be(given, message):
    with pytest.raises(RecipeError, match=message):
        Rules.parse(given)


def test_the_relative_margin_lies_below_a_positive_of_negative_score():
    """95 % of a negative score would be above it."""
    vectors = np.array([[-0.39], [-0.41], [-0.43]], np.float32)
    candidates = Candidates(searching(vectors), np.arange(3), np.full(3, 1), np.zeros(3, bool))
    queries = Queries(
        np.ones((1, 1), np.float32), np.zeros(1, int), np.array([-0.4], np.float32),
        np.zeros(1, int), np.array([[8, 9]]),
    )  # fmt: skip
    found = find_negatives(queries, candidates, Rules(relative_margin=0.05))
    assert found.positions[0, :2].tolist() == [2, -1]
