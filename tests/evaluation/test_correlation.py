from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msiam.errors import DataError
from msiam.evaluation.correlation import Correlation, fisher_interval, mean_ranks, pearson

scipy = pytest.importorskip("scipy.stats")
numbers = st.lists(st.integers(-4, 4), min_size=2, max_size=40)


def scored(embedded, scores):
    examples = dataclasses.replace(embedded.examples, scores=np.asarray(scores, np.float32))
    return dataclasses.replace(embedded, examples=examples)


def pairs(make, cosines, scores):
    """Pairs whose similarities are exactly these."""
    n = len(cosines)
    left = np.tile([1.0, 0.0], (n, 1))
    right = np.stack([cosines, np.sqrt(1 - np.square(cosines))], axis=1)
    rows = {"a": range(n), "b": range(n)}
    return scored(make(rows, rows, {"a": left, "b": right}), scores)


@given(numbers)
def test_ranks_are_scipys(values):
    assert mean_ranks(np.array(values)).tolist() == scipy.rankdata(values).tolist()


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(-100, 100)), min_size=4, max_size=60))
def test_both_are_scipys(make, rows):
    scores, cosines = np.array(rows, np.float64).T
    if len(set(scores)) < 2 or len(set(cosines)) < 2:
        return
    found = Correlation().evaluate(pairs(make, cosines / 100, scores), None).metrics
    # In float32 as the vectors are, so that equal similarities stay equal.
    given = (cosines / 100).astype(np.float32)
    assert found["spearman"] == pytest.approx(scipy.spearmanr(scores, given).statistic, abs=1e-9)
    assert found["pearson"] == pytest.approx(scipy.pearsonr(scores, given).statistic, abs=1e-9)
    assert found["spearman/low"] <= found["spearman"] <= found["spearman/high"]
    assert found["pairs"] == len(rows)


def test_the_interval_of_pearson_is_scipys():
    rng = np.random.default_rng(0)
    a = rng.normal(size=50)
    b = a + rng.normal(size=50)
    low, high = scipy.pearsonr(a, b).confidence_interval(0.95)
    assert fisher_interval(pearson(a, b), 50) == pytest.approx((low, high), abs=1e-9)


def test_the_interval_of_spearman_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(1)
    r, n, held, tries = 0.6, 80, 0, 600
    truth = 6 / np.pi * np.arcsin(r / 2)  # Spearman's ρ of a bivariate normal
    for _ in range(tries):
        a = rng.normal(size=n)
        b = r * a + np.sqrt(1 - r**2) * rng.normal(size=n)
        rho = pearson(mean_ranks(a), mean_ranks(b))
        low, high = fisher_interval(rho, n, 1 + rho**2 / 2)
        held += low <= truth <= high
    assert 0.92 < held / tries < 0.98


@pytest.mark.parametrize(("r", "n"), [(1.0, 10), (-1.0, 10), (0.3, 3), (0.0, 2)])
def test_the_ends_of_an_interval_are_correlations(r, n):
    low, high = fisher_interval(r, n)
    assert -1 <= low <= r <= high <= 1


def test_the_same_order_is_one_and_the_other_way_round_minus_one(make):
    cosines = np.array([0.9, -0.2, 0.5, 0.1])
    right = Correlation().evaluate(pairs(make, cosines, cosines * 5), None)
    wrong = Correlation().evaluate(pairs(make, cosines, -cosines), None)
    assert right.metrics["spearman"] == 1 and wrong.metrics["spearman"] == -1
    assert right.metrics["chance/spearman"] == 0
    assert "ρ 1.000" in right.headline


def test_a_model_that_embeds_everything_alike_follows_nothing(make):
    found = Correlation().evaluate(pairs(make, np.zeros(5), range(5)), None).metrics
    assert found["spearman"] == found["pearson"] == 0


def test_of_three_columns_it_is_the_margin(make):
    rows = {name: [0, 1, 2] for name in ("anchor", "positive", "negative")}
    positive = np.array([[0.9, 0], [0.5, 0], [0.1, 0]])
    negative = np.array([[0.8, 0], [0.1, 0], [-0.7, 0]])
    vectors = {"anchor": np.tile([1, 0], (3, 1)), "positive": positive, "negative": negative}
    found = Correlation().evaluate(scored(make(rows, rows, vectors), [0.1, 0.4, 0.8]), None)
    assert found.metrics["pearson"] == pytest.approx(1)
    assert found.curves["scatter"]["similarity"] == pytest.approx([0.1, 0.4, 0.8])


def test_without_scores_or_with_one_alone_there_is_nothing_to_follow(make, aligned):
    with pytest.raises(DataError, match="correlation needs scores; add 'score: "):
        Correlation().evaluate(aligned(4), None)
    with pytest.raises(DataError, match="all 3 rows here have 2: give more rows"):
        Correlation().evaluate(pairs(make, np.zeros(3), [2, 2, 2]), None)


def test_a_large_part_is_drawn_in_part(make):
    rng = np.random.default_rng(0)
    found = Correlation().evaluate(
        pairs(make, rng.uniform(-1, 1, 5000), rng.normal(size=5000)), None
    )
    assert len(found.curves["scatter"]["score"]) == 1000
