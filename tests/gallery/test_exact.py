from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from msiam.gallery import exact
from msiam.gallery.exact import merged, nearest_among, nothing


@settings(max_examples=60, deadline=None)
@given(data=st.data(), seed=st.integers(0, 99))
def test_it_finds_what_brute_force_finds_in_blocks_of_any_size(data, seed):
    count, queries, k = (data.draw(st.integers(low, 30)) for low in (1, 0, 1))
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(count, 5)).astype(np.float32)
    asked = rng.normal(size=(queries, 5)).astype(np.float32)
    mask = rng.random(count) < data.draw(st.sampled_from([0, 0.2, 1]))
    before, exact.BLOCK = exact.BLOCK, 20 * data.draw(st.integers(1, 9))
    try:
        found = nearest_among(asked, k, np.flatnonzero(mask), vectors.__getitem__)
    finally:
        exact.BLOCK = before
    products = np.where(mask, asked @ vectors.T, -np.inf)
    products = np.pad(products, ((0, 0), (0, k)), constant_values=-np.inf)
    best = np.argsort(-products, axis=1, kind="stable")[:, :k]
    scores = np.take_along_axis(products, best, 1)
    np.testing.assert_allclose(found[0], scores, rtol=1e-5)
    np.testing.assert_array_equal(found[1], np.where(np.isinf(scores), -1, best))


def test_equal_scores_are_in_the_order_of_positions():
    one = np.array([[3, 1]], np.float32), np.array([[7, 8]])
    two = np.array([[3, 1]], np.float32), np.array([[2, 9]])
    scores, positions = merged(3, [one, two, nothing(1, 3)])
    assert scores.tolist() == [[3, 3, 1]] and positions.tolist() == [[2, 7, 8]]
