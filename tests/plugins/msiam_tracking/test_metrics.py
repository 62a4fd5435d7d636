"""One-pass evaluation against values worked out by hand."""

import numpy as np
import pytest
from msiam_tracking.metrics import errors, measure, overlaps

TRUTH = np.array([[0, 0, 10, 10], [10, 0, 10, 10], [20, 0, 10, 10], [30, 0, 10, 10]], float)
BOXES = np.array([[0, 0, 10, 10], [15, 0, 10, 10], [20, 0, 10, 5], [130, 0, 10, 10]], float)


def test_overlaps():
    # The same; half shared: 50 of 150; the upper half: 50 of 100; apart.
    assert overlaps(BOXES, TRUTH).tolist() == pytest.approx([1, 1 / 3, 1 / 2, 0])


def test_errors():
    assert errors(BOXES, TRUTH).tolist() == [0, 5, 2.5, 100]


def test_success_and_precision():
    found = measure(BOXES, TRUTH)
    success = dict(zip(np.linspace(0, 1, 21).round(2).tolist(), found.success, strict=True))
    assert success[0.0] == 0.75  # more than no overlap at all
    assert success[0.3] == 0.75 and success[0.35] == 0.5
    assert success[0.45] == 0.5 and success[0.5] == 0.25
    assert success[0.95] == 0.25 and success[1.0] == 0
    # Thresholds below 1/3 (0 to 0.3: 7), then below 1/2 (to 0.45: 3), then below 1 (to 0.95: 10).
    assert found.auc == pytest.approx((7 * 0.75 + 3 * 0.5 + 10 * 0.25) / 21)
    assert found.precision[[0, 2, 3, 5, 50]].tolist() == [0.25, 0.25, 0.5, 0.75, 0.75]
    assert found.near == 0.75


def test_a_frame_whose_box_is_not_known_does_not_count():
    truth = TRUTH.copy()
    truth[3] = np.nan
    assert measure(BOXES, truth).precision[50] == 1


def test_boxes_without_area_overlap_with_nothing():
    nothing = np.zeros((4, 4))
    assert overlaps(nothing, nothing).tolist() == [0, 0, 0, 0]
    assert overlaps(nothing, TRUTH).tolist() == [0, 0, 0, 0]
