"""One pass over a sequence, and the table of trackers."""

import itertools

import numpy as np
import pytest
from msiam_tracking.frames import Video
from PIL import Image


@pytest.fixture
def bench(benchmark_module):
    return benchmark_module("tracking")


@pytest.fixture
def video():
    truth = np.array([[20.0 + 3 * n, 30, 24, 24] for n in range(4)])
    random = np.random.default_rng(0)
    ground, target = (
        random.integers(0, 256, (*size, 3), np.uint8) for size in ((90, 90), (24, 24))
    )
    frames = []
    for x, y, *_ in truth.astype(int):
        frame = ground.copy()
        frame[y : y + 24, x : x + 24] = target
        frames.append(Image.fromarray(frame))
    return Video("v", lambda: iter(frames), truth)


def test_one_pass_asks_for_each_frame_but_the_first(bench, video):
    steps = iter(video.truth[1:])
    auc, rate = bench.one_pass(video, lambda *_: lambda picture: tuple(next(steps)))
    assert auc == pytest.approx(20 / 21) and rate > 0
    assert next(steps, None) is None
    auc, _ = bench.one_pass(video, lambda *_: lambda picture: (0, 0, 1, 1))
    assert auc == pytest.approx(20 / 21 / 4)  # the first alone


@pytest.mark.parametrize("kind", ["KCF", "CSRT"])
def test_trackers_of_opencv(bench, video, kind):
    cv2 = pytest.importorskip("cv2")
    if not hasattr(cv2, f"Tracker{kind}_create"):
        pytest.skip("OpenCV without its contributed trackers")
    auc, _ = bench.one_pass(video, lambda v, p: bench.theirs(kind, v, p))
    assert 0.2 < auc < 1


def test_the_table(bench):
    auc = itertools.count(1)
    found = {
        tracker: {name: (next(auc) / 10, 30.0 + len(name)) for name in ("A", "Bee")}
        for tracker in ("siamfc", "KCF")
    }
    assert bench.table(found).splitlines() == [
        "| success AUC | A | Bee | mean | frames/s |",
        "|---|---|---|---|---|",
        "| siamfc | 0.100 | 0.200 | 0.150 | 31 |",
        "| KCF | 0.300 | 0.400 | 0.350 | 31 |",
    ]
