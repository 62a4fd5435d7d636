from __future__ import annotations

import dataclasses
import json

import numpy as np
import pydantic
import pytest
from sklearn import metrics as sk

from msiam.errors import DataError
from msiam.evaluation.calibration import Calibration
from msiam.evaluation.verification import Verification, VerificationOptions, calibration_error


@pytest.fixture
def labelled(make):
    """2,000 labelled pairs whose scores are two overlapping normals, rounded so that some tie."""
    rng = np.random.default_rng(0)
    same = rng.random(2000) < 0.4
    scores = np.round(rng.normal(size=2000) * 0.2 + 0.3 * same, 2).clip(-1, 1)
    numbers = {"a": np.zeros(2000, int), "b": np.arange(2000)}
    # Of one dimension, so that the vectors are the scores.
    groups = {"a": np.zeros(2000, int), "b": 1 + np.arange(2000)}
    return make(numbers, groups, {"a": [[1.0]], "b": scores[:, None]}, same=same), scores, same


def test_metrics_are_those_of_scikit_learn(labelled):
    embedded, scores, same = labelled
    calibration = Calibration(threshold=0.2, f1_threshold=0.1, slope=4.0, intercept=-1.0)
    found = Verification().evaluate(embedded, calibration).metrics
    probability = 1 / (1 + np.exp(-(4 * scores - 1)))
    expected = {
        "pairs": 2000,
        "same": same.sum(),
        "auc": sk.roc_auc_score(same, scores),
        "average_precision": sk.average_precision_score(same, scores),
        "accuracy": sk.accuracy_score(same, scores >= 0.2),
        "f1": sk.f1_score(same, scores >= 0.1),
        "brier": sk.brier_score_loss(same, probability),
        "chance/accuracy": 1 - same.mean(),
        "chance/f1": sk.f1_score(same, np.ones(2000)),
        "chance/average_precision": same.mean(),
    }
    far, tar, _ = sk.roc_curve(same, scores, drop_intermediate=False)
    # Where the straight line between two points of the curve crosses FAR = 1 − TAR.
    share = np.linspace(0, 1, 100_001)
    expected["eer"] = share[np.abs(1 - np.interp(share, far, tar) - share).argmin()]
    expected |= {f"tar@far={f:g}": tar[far <= f].max() for f in (0.1, 0.01, 0.001)}
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-5)
    assert found["auc/low"] < found["auc"] < found["auc/high"]
    assert "best_accuracy" not in found


def test_without_a_calibration_the_names_say_so(labelled):
    embedded, scores, same = labelled
    found = Verification().evaluate(embedded, None).metrics
    reached = [np.mean((scores >= t) == same) for t in np.unique(scores)]
    assert found["best_accuracy"] == pytest.approx(max(reached))
    assert not {"accuracy", "f1", "brier", "ece"} & found.keys()
    assert found["chance/best_accuracy"] <= found["best_accuracy"]


def test_its_own_calibration_makes_good_probabilities(labelled):
    embedded, scores, same = labelled
    found = Verification().evaluate(embedded, Calibration.fit(scores, same)).metrics
    assert found["ece"] < 0.03


def test_calibration_error_of_a_hand_worked_table():
    probability = np.array([0.05, 0.05, 0.95, 0.95, 1.0])
    same = np.array([False, True, True, True, False])
    # Lowest bin: 0.05 said, ½ seen, of 2; highest: 0.9667 said, ⅔ seen, of 3.
    expected = (2 * (0.5 - 0.05) + 3 * (2.9 / 3 - 2 / 3)) / 5
    assert calibration_error(probability, same) == pytest.approx(expected)


def test_curves_are_json_and_count_every_pair(labelled):
    embedded, scores, same = labelled
    curves = Verification().evaluate(embedded, Calibration.fit(scores, same)).curves
    assert json.loads(json.dumps(curves, allow_nan=False)) == curves
    histogram = curves["histogram"]
    assert sum(histogram["same"]) == same.sum()
    assert sum(histogram["different"]) == (~same).sum()
    assert len(histogram["edges"]) == len(histogram["same"]) + 1
    assert curves["roc"]["far"][0] == 0
    assert curves["roc"]["tar"][-1] == 1


def test_positives_alone_are_measured_against_strangers(aligned):
    found = Verification().evaluate(aligned(200, noise=0.2), None).metrics
    assert found["pairs"] == 400
    assert found["auc"] > 0.99


def test_the_headline_has_chance_beside_it(labelled):
    embedded, scores, same = labelled
    headline = Verification().evaluate(embedded, Calibration.fit(scores, same)).headline
    assert "where chance is 0.5" in headline
    assert "the threshold chosen on validation" in headline
    assert "these very pairs" in Verification().evaluate(embedded, None).headline


@pytest.mark.parametrize(("label", "word"), [(True, "the same"), (False, "different")])
def test_one_class_is_an_error(make, label, word):
    numbers = {"a": [0, 1], "b": [0, 1]}
    embedded = make(numbers, numbers, {"a": np.eye(2), "b": np.eye(2)}, same=[label, label])
    with pytest.raises(DataError, match=f"all 2 pairs of the 2 rows measured on are {word}: give"):
        Verification().evaluate(embedded, None)


@pytest.mark.parametrize("far", [[], [0.0], [1.5], ["often"]])
def test_a_rate_is_between_nothing_and_all(far):
    with pytest.raises(pydantic.ValidationError):
        VerificationOptions(far=far)


def test_each_kind_of_different_pairs_has_its_own_figures(make):
    """Titles 0 to 2 and their articles, which score 0.9, 0.5 and 0.4."""
    titles = ["wheat", "wheat gold", "gold"]
    numbers = {"title": np.arange(3), "body": np.arange(3)}
    title = np.eye(3)
    body = np.array([[0.9, 0.45, 0.0], [0.6, 0.5, 0.1], [0.0, 0.2, 0.4]])
    embedded = dataclasses.replace(
        make(numbers, numbers, {"title": title, "body": body}),
        values={"title": titles, "body": ["wheat", "wheat wheat gold", "silver"]},
        negatives={"hard": "bm25"},
    )
    found = Verification().evaluate(embedded, None).metrics
    # Swapped by words: title 0 with article 1 (0.6), 1 with 0 (0.45), 2 with 1 (0.1).
    assert found["hard/different"] == 3 and found["pairs"] == 6
    assert found["hard/auc"] == found["auc"] == pytest.approx(6 / 9)
    assert found["hard/auc/low"] < found["hard/auc"] < found["hard/auc/high"]
    assert found["hard/eer"] == found["eer"] and found["hard/chance/auc"] == 0.5
