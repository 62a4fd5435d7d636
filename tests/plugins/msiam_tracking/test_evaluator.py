"""Found or not, in maps made by hand."""

from dataclasses import replace

import numpy as np
import pytest
from msiam_tracking.evaluator import Found
from msiam_tracking.geometry import EXEMPLAR, SEARCH
from msiam_tracking.overlay import FOUND, TRUE

from msiam import Embedded, errors
from msiam.data.examples import Examples


def embedded(shifts):
    """Pairs of maps, of which the second is the first, so many places to the right."""
    random = np.random.default_rng(0)
    maps = random.standard_normal((len(shifts), 2, 22, 22)).astype(np.float32)
    moved = [np.roll(one, shift, axis=2) for one, shift in zip(maps, shifts, strict=True)]
    vectors = np.stack([*maps, *moved]).reshape(2 * len(shifts), -1)
    n = np.arange(len(shifts))
    columns = {"a": n, "b": n + len(n)}
    return Embedded(Examples(columns, columns, None, n), {"t": vectors}, {"a": "t", "b": "t"})


def test_a_target_is_found_within_the_radius():
    found = Found(Found.Options()).evaluate(embedded([0, 1, 2, 3]), None)
    assert found.metrics["found"] == 0.75  # 0, 8 and 16 pixels away; 24 is too far
    assert found.metrics["found/low"] < 0.75 < found.metrics["found/high"]
    assert found.metrics["chance/found"] == pytest.approx(13 / 289)
    assert "75.0 % of 4" in found.headline
    assert Found(Found.Options(radius=4)).evaluate(embedded([0, 1]), None).metrics["found"] == 0.5


def test_pairs_are_shown_with_the_place_that_was_found_and_the_true_one():
    pairs = embedded([0, 3])
    crops = [np.full((SEARCH, SEARCH, 3), 9 * n, np.uint8) for n in range(4)]
    pairs = replace(pairs, features={"t": crops})
    near, far = Found(Found.Options()).evaluate(pairs, None).shown["Sample crops"]
    assert (near.right, far.right) == (True, False)
    assert near.said.startswith("Found 0 pixels") and far.said.startswith("Found 24 pixels")
    assert (near.row, far.row) == (0, 1)
    assert far.items["a"].size == (EXEMPLAR, EXEMPLAR)
    pixels = np.asarray(far.items["b"])
    assert pixels.shape == (SEARCH, SEARCH, 3) and (pixels[0, 0] == 9 * 3).all()
    red, green = ((pixels == colour).all(2) for colour in (FOUND, TRUE))
    columns = [np.flatnonzero(mask.any(0))[[0, -1]].mean() for mask in (red, green)]
    assert columns[0] - columns[1] == pytest.approx(24, abs=1.5)
    rows = [np.flatnonzero(mask.any(1))[[0, -1]].mean() for mask in (red, green)]
    assert rows[0] == pytest.approx(rows[1], abs=1.5)
    assert Found(Found.Options()).evaluate(embedded([0]), None).shown == {}  # there is no picture


def test_one_column_is_refused():
    n = np.arange(2)
    one = Embedded(
        Examples({"a": n}, {"a": n}, None, n), {"t": np.zeros((2, 484), np.float32)}, {"a": "t"}
    )
    with pytest.raises(errors.DataError, match=r"there are 1 columns \(a\)"):
        Found(Found.Options()).evaluate(one, None)
