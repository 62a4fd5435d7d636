from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from msiam.errors import DataError
from msiam.evaluation.calibration import Calibration
from msiam.evaluation.measure import calibrate
from msiam.evaluation.references import DRAWS, reference_scores
from msiam.evaluation.verification import Verification, VerificationOptions


def of_classes(make, classes, claims=None, noise=0.3):
    """Items near the axis of their class, or of the class that they claim, but farther off."""
    of = np.asarray(classes)
    near = of if claims is None else np.asarray(claims)
    rng = np.random.default_rng(0)
    spread = np.where(of == near, noise, 4 * noise)[:, None]
    vectors = np.eye(8)[near] + spread * rng.normal(size=(len(of), 8))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    numbers = {"image": range(len(of))}
    embedded = make(numbers, {"image": of}, {"image": vectors}, classed=True)
    if claims is None:
        return embedded
    return replace(embedded, examples=replace(embedded.examples, claims=near))


def test_the_score_is_the_mean_similarity_with_the_references(make):
    """One class of three with two references: the third item is the one that is judged."""
    embedded = of_classes(make, [0, 0, 0, 9, 10], claims=[0, 0, 0, 0, 1])
    vectors = embedded.vectors["image"].astype(np.float64)
    scores, same, classes = reference_scores(embedded, 2)
    assert same.tolist() == [True, False] * DRAWS and not classes.any()
    for judged, forged in scores.reshape(DRAWS, 2):
        sets = [([0, 1], 2), ([0, 2], 1), ([1, 2], 0)]
        expected = [
            (vectors[r].mean(0) @ vectors[p], vectors[r].mean(0) @ vectors[3]) for r, p in sets
        ]
        assert min(abs(a - judged) + abs(b - forged) for a, b in expected) < 1e-6


def test_without_claims_it_is_told_from_as_many_of_other_classes(make):
    scores, same, classes = reference_scores(of_classes(make, np.repeat([0, 1, 2], 6)), 2)
    assert len(scores) == 3 * DRAWS * 8 and same.mean() == 0.5
    assert np.bincount(classes).tolist() == [8 * DRAWS] * 3
    assert scores[same].mean() > scores[~same].mean() + 0.3


def test_several_references_judge_better_than_one_and_have_a_threshold_of_their_own(make):
    claims = np.repeat(np.arange(8), 20)
    of = np.where(np.arange(160) % 20 < 12, claims, 100 + np.arange(160))
    embedded = of_classes(make, of, claims)
    evaluator = Verification(VerificationOptions(references=5))
    calibration = calibrate({"verification": evaluator}, embedded)
    assert Calibration.from_json(calibration.to_json()) == calibration
    assert calibration.references[5].threshold > calibration.threshold
    found = evaluator.evaluate(embedded, calibration)
    assert found.metrics["5_references/eer"] < found.metrics["eer"]
    for eer in ("eer", "5_references/eer"):
        assert found.metrics[f"{eer}/low"] <= found.metrics[eer] <= found.metrics[f"{eer}/high"]
    assert found.metrics["5_references/accuracy"] > found.metrics["5_references/chance/accuracy"]
    assert "By 5 reference items" in found.headline
    assert "5_references/accuracy" not in evaluator.evaluate(embedded, None).metrics


def test_what_has_no_references_is_refused(make):
    with pytest.raises(DataError, match="5 references of a class need one with more members"):
        reference_scores(of_classes(make, [0, 0, 0, 1, 1, 1]), 5)
    rows = {"a": [0, 1], "b": [0, 1]}
    pairs = make(rows, rows, dict.fromkeys("ab", np.eye(2)))
    with pytest.raises(DataError, match="references are of one column with classes"):
        reference_scores(pairs, 5)
