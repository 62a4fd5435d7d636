from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from msiam.evaluation.roc import Roc, auc_interval, eer_interval, wilson_interval

# Few distinct scores, so that most examples have ties, within a class and between the two.
scored = st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=40)
both = scored.filter(lambda pairs: len({same for _, same in pairs}) == 2)


def arrays(pairs: list[tuple[int, bool]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([s for s, _ in pairs]) / 3, np.array([same for _, same in pairs])


@settings(deadline=None)
@given(both)
def test_auc_and_average_precision_are_those_of_scikit_learn(pairs):
    scores, same = arrays(pairs)
    roc = Roc.of(scores, same)
    assert roc.auc() == pytest.approx(metrics.roc_auc_score(same, scores), abs=1e-12)
    expected = metrics.average_precision_score(same, scores)
    assert roc.average_precision() == pytest.approx(expected, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(scored)
def test_every_cut_counts_what_its_threshold_accepts(pairs):
    scores, same = arrays(pairs)
    roc = Roc.of(scores, same)
    assert (np.diff(roc.thresholds) < 0).all()
    for cut, threshold in enumerate(roc.thresholds):
        said = scores >= threshold
        assert roc.hits[cut] == (said & same).sum()
        assert roc.alarms[cut] == (said & ~same).sum()
        assert roc.accuracy[cut] == pytest.approx(metrics.accuracy_score(same, said))
        expected = metrics.f1_score(same, said, zero_division=0.0)
        assert roc.f1[cut] == pytest.approx(expected)


def test_neighbouring_floats_are_told_apart():
    low = 0.1
    high = np.nextafter(low, 1)
    roc = Roc.of(np.array([low, high]), np.array([False, True]))
    assert [int((np.array([low, high]) >= t).sum()) for t in roc.thresholds] == [0, 1, 2]


@pytest.mark.parametrize(
    ("same", "different", "expected"),
    [
        ([3, 4], [1, 2], 0.0),  # separated
        ([1, 2], [3, 4], 1.0),  # separated, the wrong way round
        ([5, 5], [5, 5], 0.5),  # nothing known: the diagonal
        ([4, 2], [3, 1], 0.5),  # (0, ½) → (½, ½): a corner on the line
        ([3, 2], [2, 1], 0.25),  # a tie: (0, ½) → (½, 1) crosses FAR = 1 - TAR at ¼
        ([4, 3, 1], [2, 0, -1], 1 / 3),
    ],
)
def test_equal_error_rate_of_hand_worked_tables(same, different, expected):
    labels = np.array([True] * len(same) + [False] * len(different))
    roc = Roc.of(np.array([*same, *different]), labels)
    assert roc.equal_error_rate() == pytest.approx(expected)


@given(both)
def test_equal_error_rate_does_not_change_when_sides_are_swapped(pairs):
    scores, same = arrays(pairs)
    swapped = Roc.of(-scores, ~same).equal_error_rate()
    assert Roc.of(scores, same).equal_error_rate() == pytest.approx(swapped)


def test_tar_at_far_takes_no_cut_beyond_the_rate():
    scores = np.array([9, 8, 7, 6, 5, 4, 3])
    same = np.array([1, 0, 1, 1, 0, 0, 0], dtype=bool)
    roc = Roc.of(scores, same)
    assert roc.tar_at(0.2) == pytest.approx(1 / 3)  # one false acceptance is ¼ already
    assert roc.tar_at(0.25) == pytest.approx(1.0)


def test_a_thinned_curve_keeps_its_ends_and_its_shape():
    rng = np.random.default_rng(0)
    same = rng.random(20_000) < 0.3
    scores = rng.normal(size=len(same)) + same
    roc = Roc.of(scores, same)
    far, tar = roc.thinned(200)
    assert len(far) <= 200
    assert (far[0], tar[0], far[-1], tar[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(tar, far) == pytest.approx(roc.auc(), abs=1e-3)


@pytest.mark.parametrize(("auc", "n"), [(0.6, 10), (0.85, 50), (0.99, 400)])
def test_auc_interval_ends_where_hanley_and_mcneil_put_z(auc, n):
    def sigma(theta: float) -> float:
        q1, q2 = theta / (2 - theta), 2 * theta**2 / (1 + theta)
        both_ways = (n - 1) * (q1 - theta**2) + (n - 1) * (q2 - theta**2)
        return float(np.sqrt((theta * (1 - theta) + both_ways) / n**2))

    low, high = auc_interval(auc, n, n)
    assert low < auc < high
    assert (auc - low) / sigma(low) == pytest.approx(1.96, abs=1e-3)
    assert (high - auc) / sigma(high) == pytest.approx(1.96, abs=1e-3)


def test_auc_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    truth = 0.7602  # Φ(1 / √2), two normals one standard deviation apart
    same = np.arange(90) < 40
    covered = 0
    for _ in range(1000):
        auc = Roc.of(rng.normal(size=90) + same, same).auc()
        low, high = auc_interval(auc, 40, 50)
        covered += low <= truth <= high
    assert 0.93 <= covered / 1000 <= 0.97


def test_auc_interval_of_a_few_separated_pairs_is_wide():
    low, high = auc_interval(1.0, 5, 5)
    assert high == 1.0
    assert 0.4 < low < 0.8


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    # Newcombe (1998), table I, method 3.
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval_is_that_of_the_published_table(hits, n, low, high):
    assert wilson_interval(hits / n, n) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 5000), st.floats(0, 1))
def test_wilson_interval_holds_the_share(n, share):
    low, high = wilson_interval(share, n)
    assert 0 <= low <= share <= high <= 1


def test_wilson_interval_of_all_and_of_nothing_reaches_the_end():
    for n in range(1, 500):
        assert wilson_interval(1.0, n)[1] == 1
        assert wilson_interval(0.0, n)[0] == 0


def test_the_interval_of_the_equal_error_rate_is_over_classes():
    rng = np.random.default_rng(0)
    same = np.arange(2000) % 2 == 0
    scores = rng.normal(size=2000) + 2 * same
    eer = Roc.of(scores, same).equal_error_rate()
    wide = eer_interval(scores, same, np.arange(2000) // 200)
    narrow = eer_interval(scores, same, np.arange(2000))
    assert narrow[0] < eer < narrow[1] and wide[0] < eer < wide[1]
    # Of independent pairs it is about ± 2 √(p (1 − p) / n) of each kind, over √2 for both.
    assert narrow[1] - narrow[0] == pytest.approx(4 * np.sqrt(eer * (1 - eer) / 2000), rel=0.35)
    # One class of ten judged wrongly throughout: only whole classes tell how far that may go.
    scores[:200] *= -1
    wide = eer_interval(scores, same, np.arange(2000) // 200)
    narrow = eer_interval(scores, same, np.arange(2000))
    assert wide[1] - wide[0] > 2 * (narrow[1] - narrow[0])
    assert eer_interval(np.ones(3), np.ones(3, bool), np.arange(3)) == (0.0, 1.0)
