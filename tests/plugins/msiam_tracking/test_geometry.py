"""Crops round a target: which pixels they show, and what is outside the picture."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msiam_tracking.geometry import (
    EXEMPLAR,
    KERNEL,
    PLACES,
    SEARCH,
    STRIDE,
    centre,
    crop,
    exemplar_side,
    search_side,
)
from PIL import Image

RAMP = Image.fromarray(
    np.stack(np.broadcast_arrays(np.arange(200), np.arange(100)[:, None], 7), -1).astype(np.uint8)
)  # red is x, green is y


def test_the_sides_of_the_paper():
    assert exemplar_side(40, 40) == pytest.approx(80)  # a square has as much context as target
    assert exemplar_side(20, 60) == pytest.approx(np.sqrt(60 * 100))
    assert search_side(40, 40) == pytest.approx(80 * 255 / 127)


def test_the_middle_of_a_box():
    assert centre((10, 20, 6, 4)) == (13, 22)


def test_an_exemplar_is_the_middle_of_its_search_region():
    """In pixels and in places of the map alike, so that one crop serves as both."""
    margin = (SEARCH - EXEMPLAR) // 2
    assert 2 * margin + EXEMPLAR == SEARCH
    assert margin == (PLACES - KERNEL) // 2 * STRIDE
    large = np.asarray(crop(RAMP, (90, 50), SEARCH / 4, SEARCH)).astype(int)
    small = np.asarray(crop(RAMP, (90, 50), EXEMPLAR / 4, EXEMPLAR)).astype(int)
    inside = large[margin:-margin, margin:-margin]
    assert inside.shape == small.shape and np.abs(inside - small).max() <= 1


def test_pixels_as_they_are():
    shown = np.asarray(crop(RAMP, (50, 40), 20, 20))
    assert (shown == np.asarray(RAMP)[30:50, 40:60]).all()


@given(st.floats(20, 180), st.floats(20, 80), st.floats(4, 30), st.integers(8, 64))
def test_its_middle_is_what_was_asked_for(x, y, side, size):
    shown = np.asarray(crop(RAMP, (x, y), side, size)).astype(float)
    # A pixel that begins at x has its middle at x + ½.
    assert shown[..., 0].mean() + 0.5 == pytest.approx(x, abs=0.6)
    assert shown[..., 1].mean() + 0.5 == pytest.approx(y, abs=0.6)


def test_outside_is_the_mean_colour():
    picture = Image.new("RGB", (10, 10), (200, 0, 0))
    picture.paste((100, 0, 0), (5, 0, 10, 10))
    shown = np.asarray(crop(picture, (0, 0), 20, 20))
    assert (shown[:10] == [150, 0, 0]).all() and (shown[:, :10] == [150, 0, 0]).all()
    assert (shown[10:, 10:15] == [200, 0, 0]).all() and (shown[10:, 15:] == [100, 0, 0]).all()


def test_wholly_outside():
    assert (np.asarray(crop(RAMP, (-500, 40), 20, 8)) == crop(RAMP, (900, 900), 3, 8)).all()
