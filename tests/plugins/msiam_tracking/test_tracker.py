"""The tracker on a square that moves, and its reading of a score map."""

import numpy as np
import pytest
import torch
from msiam_tracking.metrics import errors as distances
from msiam_tracking.metrics import overlaps
from msiam_tracking.tracker import FINER, Settings, Tracker, placed

from msiam import Model, errors


def tracked(model, film, **settings):
    frames, boxes = film
    tracker = Tracker(model, frames[0], tuple(boxes[0]), Settings(**settings))
    return np.array([tracker.box, *(tracker.step(frame) for frame in frames[1:])])


def test_it_follows_a_moving_square(model, film):
    found = tracked(model, film)
    assert distances(found, film[1]).max() < 5  # the square has moved by 25, 15
    assert overlaps(found, film[1]).min() > 0.6


def test_what_stands_still_stays_where_it_is(model, film):
    frames, boxes = film
    found = tracked(model, ([frames[0]] * 4, boxes[[0] * 4]))
    assert distances(found, boxes[[0] * 4]).max() < 1
    assert overlaps(found, boxes[[0] * 4]).min() > 0.9


def test_its_size_follows_slowly_and_has_bounds(model, film):
    frames, boxes = film
    tracker = Tracker(model, frames[0], tuple(boxes[0]), Settings(damping=0, penalty=0.5))
    assert tracker.step(frames[1])[2:] == (24, 24)


def test_it_does_not_leave_the_picture(model, film):
    frames, boxes = film
    tracker = Tracker(model, frames[0], tuple(boxes[0]))
    small = frames[1].crop((0, 0, 30, 30))
    x, y, w, h = tracker.step(small)
    assert 0 <= x + w / 2 <= 30 and 0 <= y + h / 2 <= 30


def test_a_peak_is_read_as_pixels_of_the_region():
    side = 17 * FINER
    flat = torch.zeros(side, side)
    window = torch.ones(side, side) / side**2
    middle = side // 2
    flat[middle + 2 * FINER, middle - 3 * FINER] = 1  # three places left, two down
    x, y = placed(flat, window, 0.0)
    assert (x, y) == pytest.approx((-24, 16), abs=0.5)
    near = torch.zeros_like(window)
    near[middle, middle] = 1
    assert np.abs(placed(flat, near, 0.9)).max() < 1  # the window weighs more


def test_a_model_without_maps_is_refused(film):
    model = Model({"text": {"encoder": "lstm"}}, {"a": "text", "b": "text"})
    with pytest.raises(errors.ModelError, match=r"no tower with encoder: siamfc.*LstmEncoder"):
        Tracker(model, film[0][0], (1, 1, 5, 5))
