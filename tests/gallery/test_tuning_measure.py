from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from msiam.gallery import tuning_measure
from msiam.gallery.faiss_backend import FaissBackend
from msiam.gallery.tuning_candidates import Candidate
from msiam.gallery.tuning_measure import FACTORS, Truth, _least, lower_bound, measure


def clustered(count, seed, dim=16, centres=60):
    rng = np.random.default_rng(seed)
    about = np.random.default_rng(7).normal(size=(centres, dim))
    found = about[rng.integers(0, centres, count)] + 0.5 * rng.normal(size=(count, dim))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


VECTORS, QUERIES = clustered(3000, 0), clustered(400, 1)
K = 10


@pytest.fixture(autouse=True)
def few_times(monkeypatch):
    monkeypatch.setattr(tuning_measure, "SINGLES", 5)


def truth_of(queries, vectors=VECTORS):
    return Truth(queries, -np.sort(-(queries @ vectors.T), axis=1)[:, K - 1], K)


TRUTH = truth_of(QUERIES)


def test_recall_counts_what_is_among_the_k_nearest():
    truth = Truth(np.ones((2, 3), np.float32), np.array([0.5, 0.9], np.float32), 2)
    scores = np.array([[0.8, 0.5], [0.95, 0.7]], np.float32)
    assert truth.recalls(scores).tolist() == [1, 0.5]
    missing = np.array([[0.8, -np.inf], [-np.inf, -np.inf]], np.float32)
    assert truth.recalls(missing).tolist() == [0.5, 0]


def test_of_equal_scores_any_is_right_and_so_is_another_rounding():
    truth = Truth(np.ones((1, 3), np.float32), np.array([0.7], np.float32), 2)
    rounded = np.nextafter(np.float32(0.7), np.float32(0))
    assert truth.recalls(np.array([[0.7, rounded]], np.float32)) == 1
    assert truth.recalls(np.array([[0.7, 0.6999]], np.float32)) == 0.5


@pytest.mark.parametrize("rate", [0.5, 0.9, 0.96, 0.995])
def test_the_lower_bound_holds_on_all_queries_in_99_of_100_samples(rate):
    rng = np.random.default_rng(0)
    held = [
        lower_bound(rng.binomial(K, rng.beta(rate * 8, (1 - rate) * 8, 400)) / K) <= rate
        for _ in range(1000)
    ]
    assert np.mean(held) >= 0.98


def test_the_lower_bound_is_near():
    recalls = np.repeat([1.0, 0.9], [1900, 100])
    assert recalls.mean() - 0.003 < lower_bound(recalls) < recalls.mean()
    assert lower_bound(np.ones(1000)) == pytest.approx(0.999)
    assert lower_bound(np.ones(1)) == lower_bound(np.zeros(9)) == 0


@given(st.integers(1, 20), st.integers(0, 500), st.integers(1, 600))
def test_about_the_least_depth_that_is_enough(least, more, needed):
    most = least + more
    tried = []
    depth = _least(least, most, lambda d: tried.append(d) or d >= needed)
    assert least <= depth <= most and min(tried) >= least
    if needed <= most:
        assert needed <= depth <= max(least, needed * 1.34 + 1)
    else:
        assert depth == most
    assert len(tried) <= 16


@pytest.mark.parametrize(
    "candidate",
    [
        Candidate("Flat", 64),
        Candidate("HNSW8", 128, ("ef_search", 16, 256)),
        Candidate("IVF32,Flat", 72, ("nprobe", 1, 32)),
        Candidate("IVF32,PQ8x4fs,RFlat", 12, ("nprobe", 1, 32), refines=True),
        Candidate("IVF32,RaBitQfs,RFlat", 10, ("nprobe", 1, 32), refines=True),
    ],
    ids=lambda candidate: candidate.factory,
)
def test_an_index_is_searched_as_deeply_as_the_target_takes(candidate, tmp_path):
    chunks = [VECTORS[:1000], VECTORS[1000:]]
    found = list(measure(candidate, chunks, TRUTH, 0.95, tmp_path / "index"))
    assert max(one.low for one in found) >= 0.95
    assert len({one.options for one in found}) == len(found)
    for one in found:
        assert one.low <= one.recall <= 1
        assert min(one.single, one.batch, one.build) > 0
        assert one.disk == (tmp_path / "index").stat().st_size
        whole = VECTORS.nbytes if candidate.refines else 0
        assert one.memory == one.disk - whole
        assert candidate.bytes * len(VECTORS) <= one.memory < 20 * candidate.bytes * len(VECTORS)
        assert one.options.factory == candidate.factory
        if candidate.refines:
            assert one.options.k_factor in FACTORS
    if candidate.depth is None:
        assert [(one.recall, one.low) for one in found] == [(1, 1)]


def test_the_same_vectors_give_the_same_recall(tmp_path):
    candidate = Candidate("IVF32,RaBitQfs,RFlat", 10, ("nprobe", 1, 32), refines=True)
    one, two = (
        [(m.options, m.recall) for m in measure(candidate, [VECTORS], TRUTH, 0.9, tmp_path / "i")]
        for _ in range(2)
    )
    assert one == two


@settings(
    max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.integers(0, 10**6))
def test_the_recall_holds_on_fresh_queries(tmp_path_factory, seed):
    place = tmp_path_factory.mktemp("fresh") / "index"
    candidate = Candidate("IVF32,Flat", 72, ("nprobe", 1, 32))
    truth = truth_of(clustered(400, seed))
    found = list(measure(candidate, [VECTORS], truth, 0.9, place))
    promised = min((m for m in found if m.low >= 0.9), key=lambda m: m.options.nprobe)
    fresh = clustered(4000, seed + 10**7)
    scores, _ = FaissBackend.open(place, promised.options).search(fresh, K)
    assert truth_of(fresh).recalls(scores).mean() >= promised.low - 0.01
