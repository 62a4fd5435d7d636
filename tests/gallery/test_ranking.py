from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msiam.gallery import ranking
from msiam.gallery.ranking import Rules, ranked


def searcher(scores, most=None, sizes=None):
    """Of queries that are numbers of rows of ``scores`` (q, n): the nearest, ``most`` at most."""
    found = np.argsort(-scores, axis=1, kind="stable")

    def nearest(queries, k):
        if sizes is not None:
            sizes.append((len(queries), k))
        rows = queries[:, 0].astype(int)
        places = found[rows, :k].copy()
        best = np.take_along_axis(scores[rows], places, 1)
        if most is not None:
            places[:, most:], best[:, most:] = -1, -np.inf
        return best, places

    return nearest


def plainly(scores, k, rules, row, most=None):
    """One query's hits, by going through them one by one."""
    hits, seen = [], set()
    for place in np.argsort(-scores, kind="stable")[:most]:
        out = rules.excluded is not None and place in rules.excluded[row]
        if out or scores[place] < rules.threshold or len(hits) == k:
            continue
        group = place if rules.groups is None else ("of", rules.groups[place])
        if group not in seen:
            seen.add(group)
            hits.append((float(scores[place]), int(place)))
    return hits


@st.composite
def cases(draw):
    queries, count = draw(st.integers(0, 4)), draw(st.integers(1, 30))
    rng = np.random.default_rng(draw(st.integers(0, 9)))
    scores = rng.integers(0, 12, (queries, count)).astype(np.float32)
    some = st.lists(st.integers(0, count - 1), max_size=5, unique=True)
    rules = Rules(
        threshold=draw(st.just(-np.inf) | st.integers(-1, 12)),
        groups=draw(st.none() | st.just(rng.integers(-4, 2, count))),
        excluded=draw(st.none() | st.lists(some.map(np.array), min_size=queries, max_size=queries)),
    )
    return scores, draw(st.integers(1, count)), rules, draw(st.none() | st.integers(1, count))


@given(cases(), st.sampled_from([1, 7, 1 << 22]))
def test_the_hits_are_those_that_going_through_all_finds(case, most):
    scores, k, rules, depth = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "MOST", most)
        rows = np.arange(len(scores), dtype=np.float32)[:, None]
        best, places, short = ranked(rows, k, scores.shape[1], rules, searcher(scores, depth))
    assert best.shape == places.shape == (len(scores), k)
    for row, (line, at) in enumerate(zip(best.tolist(), places.tolist(), strict=True)):
        hits = plainly(scores[row], k, rules, row, depth)
        found = [(score, place) for score, place in zip(line, at, strict=True) if place >= 0]
        assert found == hits
        assert line[len(hits) :] == [-np.inf] * (k - len(hits))
        limited = depth is not None and depth < scores.shape[1]
        if short[row]:
            assert limited and len(hits) < k
        elif len(hits) < k and limited:  # it went on until the scores were too low
            assert np.sort(scores[row])[::-1][:depth].min() < rules.threshold


def test_no_more_is_looked_at_than_it_takes():
    scores = -np.arange(1000, dtype=np.float32)[None].repeat(3, 0)
    rows = np.arange(3, dtype=np.float32)[:, None]
    sizes = []
    ranked(rows, 5, 1000, Rules(threshold=-2), searcher(scores, sizes=sizes))
    assert sizes == [(3, 5)]
    sizes.clear()
    excluded = [np.array([0]), np.array([], int), np.array([1, 2])]
    ranked(rows, 5, 1000, Rules(excluded=excluded), searcher(scores, sizes=sizes))
    assert sizes == [(3, 7)]
    sizes.clear()
    groups = np.arange(1000) // 100
    _, places, _ = ranked(rows, 3, 1000, Rules(groups=groups), searcher(scores, sizes=sizes))
    assert places.tolist() == [[0, 100, 200]] * 3
    assert sizes == [(3, 3), (3, 12), (3, 48), (3, 192), (3, 768)]


def test_a_query_that_has_its_hits_is_not_searched_again():
    scores = -np.arange(100, dtype=np.float32)[None].repeat(2, 0)
    scores[1] = scores[1, ::-1]
    groups = np.where(np.arange(100) < 90, 0, np.arange(100))
    rows = np.arange(2, dtype=np.float32)[:, None]
    sizes = []
    ranked(rows, 2, 100, Rules(groups=groups), searcher(scores, sizes=sizes))
    assert sizes == [(2, 2), (1, 8), (1, 32), (1, 100)]


def test_of_no_records_there_are_no_hits():
    nothing = np.empty((2, 1), np.float32)
    best, places, short = ranked(nothing, 0, 0, Rules(threshold=1), searcher(np.empty((2, 0))))
    assert best.shape == places.shape == (2, 0) and not short.any()
