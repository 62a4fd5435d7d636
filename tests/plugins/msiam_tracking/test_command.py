"""msiam track as people call it, and what it leaves."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from msiam_tracking.following import first_box, follow
from msiam_tracking.frames import Video
from PIL import Image

from msiam import errors


def test_the_command(saved, sequence, tmp_path):
    program = Path(sys.executable).with_name("msiam")
    done = subprocess.run(
        [program, "track", saved, sequence, "--box", "60,50,24,24", "--out", "out", "--json"],
        cwd=tmp_path, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["frames"] == 6 and 0 <= figures["success_auc"] <= 1
    out = tmp_path / "out"
    boxes = np.loadtxt(out / "boxes.txt", delimiter=",")
    assert boxes.shape == (6, 4) and boxes[0].tolist() == [60, 50, 24, 24]
    assert json.loads((out / "metrics.json").read_text()) == figures
    assert Image.open(out / "plots.png").width > 500
    assert (tmp_path / figures["overlay"]).stat().st_size > 1000
    wrong = subprocess.run(
        [program, "track", saved, sequence, "--box", "60,50,24"],
        cwd=tmp_path, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert wrong.returncode == 2
    assert wrong.stderr == (
        "msiam: --box 60,50,24: write it as x,y,w,h, for example --box 147,110,34,33\n"
    )


def test_without_opencv_the_film_is_a_gif(saved, sequence, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    figures = follow(saved, sequence, None, tmp_path / "out")
    with Image.open(tmp_path / "out" / "overlay.gif") as film:
        assert film.n_frames == 6 and film.size == (200, 150)
    assert figures["overlay"].endswith("overlay.gif")


def test_with_opencv_it_is_an_mp4(saved, sequence, tmp_path):
    cv2 = pytest.importorskip("cv2")
    follow(saved, sequence, None, tmp_path / "out")
    film = cv2.VideoCapture(str(tmp_path / "out" / "overlay.mp4"))
    assert film.get(cv2.CAP_PROP_FRAME_COUNT) == 6


def test_without_the_truth_nothing_is_measured(saved, sequence, tmp_path):
    shutil.copytree(sequence / "img", tmp_path / "frames")
    figures = follow(saved, tmp_path / "frames", "60,50,24,24", tmp_path / "out")
    assert "success_auc" not in figures and not (tmp_path / "out" / "plots.png").exists()


def test_the_first_box():
    video = Video("v", lambda: iter(()), np.array([[1.0, 2, 3, 4]]))
    assert first_box(video, None) == (1, 2, 3, 4)
    assert first_box(video, "5, 6, 7.5, 8") == (5, 6, 7.5, 8)
    with pytest.raises(errors.DataError, match="v: has no true box; give the target's: --box"):
        first_box(Video("v", video.read), None)
    for wrong in ("1,2,0,4", "1,2,3", "a,b,c,d"):
        with pytest.raises(errors.DataError, match=f"--box {wrong}: write it as x,y,w,h"):
            first_box(video, wrong)
