from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from msiam.errors import DataError, ModelError
from msiam.evaluation.calibration import Calibration, fit_logistic

finite = st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=1, max_size=30))
def test_threshold_is_the_highest_of_the_best(pairs):
    scores = np.array([float(s) for s, _ in pairs])
    same = np.array([label for _, label in pairs])
    found = Calibration.fit(scores, same)

    def accuracy(threshold: float) -> float:
        return float(np.mean((scores >= threshold) == same))

    # Scores are whole numbers: these thresholds make every decision that can be made.
    candidates = np.arange(-3.5, 4)
    best = max(accuracy(t) for t in candidates)
    assert accuracy(found.threshold) == best
    for higher in candidates[candidates > found.threshold]:
        decides_alike = ((scores >= higher) == found.same(scores)).all()
        assert decides_alike or accuracy(higher) < best


def test_separated_classes_are_cut_half_way():
    scores, same = np.array([0.1, 0.2, 0.6, 0.9]), np.array([False, False, True, True])
    found = Calibration.fit(scores, same)
    assert found.threshold == pytest.approx(0.4)
    assert found.f1_threshold == pytest.approx(0.4)
    # The smoothed targets of two and two pairs are ¾ and ¼: four pairs make nobody certain.
    assert 0.7 < found.probability(0.9) < 0.9
    assert 0.1 < found.probability(0.1) < 0.3


def test_f1_may_choose_another_threshold_than_accuracy():
    scores = np.array([5.0, 4, 4, 3, 3, 3, 2, 2, 2, 2])
    same = np.array([1, 1, 0, 1, 0, 0, 0, 0, 0, 0], dtype=bool)
    found = Calibration.fit(scores, same)
    assert found.threshold == 4.5  # 8 of 10; 3.5 reaches 8 as well, and is lower
    assert found.f1_threshold == 3.5  # ⅔, against ½ at 4.5 and ⅔ at 2.5


@pytest.mark.parametrize("label", [True, False])
def test_a_single_class_gets_that_answer(label):
    scores = np.array([0.2, 0.5, 0.7])
    found = Calibration.fit(scores, np.full(3, label))
    assert (found.same(scores) == label).all()
    assert found.probability(scores) == pytest.approx(np.full(3, 0.8 if label else 0.2))


def test_constant_scores_get_the_base_rate():
    same = np.array([True, False, False, False])
    found = Calibration.fit(np.full(4, 0.3), same)
    assert not found.same(0.3)
    assert found.slope == 0
    assert found.probability(0.3) == pytest.approx(
        (2 / 3 + 3 * 0.2) / 4
    )  # the smoothed targets' mean


def test_no_pairs_are_an_error():
    with pytest.raises(DataError, match="no pairs to choose a threshold on"):
        Calibration.fit(np.empty(0), np.empty(0, dtype=bool))


@pytest.mark.parametrize(("scale", "shift"), [(1, 0), (1e-3, 100), (1e4, -5)])
def test_logistic_fit_is_that_of_scikit_learn_on_smoothed_targets(scale, shift):
    rng = np.random.default_rng(0)
    same = rng.random(500) < 0.3
    scores = rng.normal(size=500) + 1.5 * same
    slope, intercept = fit_logistic(scale * scores + shift, same)

    n = same.sum()
    target = np.where(same, (n + 1) / (n + 2), 1 / (500 - n + 2))
    reference = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(
        np.r_[scores, scores][:, None],
        np.r_[np.ones(500), np.zeros(500)],
        sample_weight=np.r_[target, 1 - target],
    )
    assert slope * scale == pytest.approx(reference.coef_[0, 0], rel=1e-4)
    assert intercept + slope * shift == pytest.approx(reference.intercept_[0], rel=1e-4)


def test_a_model_worse_than_chance_gets_a_falling_probability():
    found = Calibration.fit(np.arange(10.0), np.arange(10) < 5)
    assert found.probability(0.0) > 0.5 > found.probability(9.0)


def test_probability_of_an_enormous_score_is_a_number():
    found = Calibration(0.5, 0.5, 40.0, -20.0)
    assert found.probability(np.array([-1e300, 1e300])) == pytest.approx([0, 1])


@given(finite, finite, finite, finite)
def test_json_keeps_every_bit(threshold, f1_threshold, slope, intercept):
    calibration = Calibration(threshold, f1_threshold, slope, intercept)
    assert Calibration.from_json(calibration.to_json()) == calibration


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"threshold": "x"}', "null"])
def test_damaged_json_is_one_clear_line(text):
    with pytest.raises(ModelError, match="calibration: is damaged") as caught:
        Calibration.from_json(text)
    assert "\n" not in str(caught.value)


def test_calibration_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Calibration(0.5, 0.5, 1.0, 0.0).threshold = 0.1  # type: ignore[misc]  # that is the test
