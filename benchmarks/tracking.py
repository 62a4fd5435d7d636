"""One-pass evaluation of configs/siamfc.yaml beside OpenCV's trackers, on the same frames.

    python benchmarks/tracking.py [--train-only | --report-only]

Each OTB sequence is tracked by the run that was trained on the three others, runs/siamfc_NAME.
Exits with 1 where one is missing, or where the mean success AUC is not above KCF's. OpenCV's
trackers begin with the same box; where one says that it has lost the target, its last box stays.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from msiam_tracking.frames import Video, sequence_of, sequences_of
from msiam_tracking.metrics import measure
from msiam_tracking.tracker import Tracker
from PIL import Image

import msiam

ROOT = Path(__file__).parent.parent
ARCHIVE = Path(os.environ.get("MSIAM_DATA", ROOT.parent / "shared" / "data")) / "tracking"
#: The names that opencv-contrib gives them. KCF is the bar; CSRT is slower, and better.
THEIRS = ("KCF", "CSRT")
GOAL_RATE = 25

Step = Callable[[Image.Image], tuple[float, float, float, float]]


def folder(name: str) -> Path:
    """The run that has not seen a sequence."""
    return ROOT / "runs" / f"siamfc_{name}"


def train(name: str) -> None:
    """Train on the other sequences, unless that was done."""
    if (folder(name) / "metrics.json").is_file():
        return
    command = [str(Path(sys.executable).with_name("msiam")), "train", "configs/siamfc.yaml"]
    command += ["--set", f"name=siamfc_{name}", "--set", f"data.table.without={name}"]
    subprocess.run([*command, "--overwrite"], cwd=ROOT, check=True)


def ours(run: msiam.Run, video: Video, picture: Image.Image) -> Step:
    assert video.truth is not None
    return Tracker(run.model, picture, tuple(video.truth[0])).step


def theirs(kind: str, video: Video, picture: Image.Image) -> Step:
    """One of OpenCV's trackers, with its own settings."""
    import cv2

    assert video.truth is not None
    tracker = getattr(cv2, f"Tracker{kind}_create")()
    last = tuple(round(value) for value in video.truth[0])
    tracker.init(cv2.cvtColor(np.asarray(picture), cv2.COLOR_RGB2BGR), last)

    def step(picture: Image.Image) -> tuple[float, float, float, float]:
        nonlocal last
        found, box = tracker.update(cv2.cvtColor(np.asarray(picture), cv2.COLOR_RGB2BGR))
        last = box if found else last
        return last

    return step


def one_pass(video: Video, begin: Callable[[Video, Image.Image], Step]) -> tuple[float, float]:
    """Success AUC, and frames a second without reading them."""
    assert video.truth is not None
    frames = list(video.read())
    step, boxes = begin(video, frames[0]), [video.truth[0]]
    begun = time.perf_counter()
    boxes += [step(picture) for picture in frames[1:]]
    rate = (len(frames) - 1) / (time.perf_counter() - begun)
    return measure(np.array(boxes, float), video.truth).auc, rate


def table(found: dict[str, dict[str, tuple[float, float]]]) -> str:
    """Markdown: a line a tracker, a column a sequence, their mean and the slowest rate."""
    names = list(next(iter(found.values())))
    lines = [
        f"| success AUC | {' | '.join(names)} | mean | frames/s |",
        f"|---|{'---|' * (len(names) + 2)}",
    ]
    for tracker, by_name in found.items():
        cells = [f"{by_name[name][0]:.3f}" for name in names]
        rate = min(rate for _, rate in by_name.values())
        lines.append(f"| {tracker} | {' | '.join(cells)} | {mean(by_name):.3f} | {rate:.0f} |")
    return "\n".join(lines)


def mean(by_name: dict[str, tuple[float, float]]) -> float:
    return float(np.mean([auc for auc, _ in by_name.values()]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train-only", action="store_true", help="train, and track nothing")
    parser.add_argument("--report-only", action="store_true", help="track with the runs there are")
    arguments = parser.parse_args()
    archive = ARCHIVE / "otb_dev.zip"
    names = sequences_of(archive)
    for name in [] if arguments.report_only else names:
        train(name)
    if arguments.train_only:
        return 0
    missing = [name for name in names if not (folder(name) / "metrics.json").is_file()]
    if missing:
        print(f"no run for {', '.join(missing)}; leave --report-only out")
        return 1
    found: dict[str, dict[str, tuple[float, float]]] = {"siamfc": {}, **{k: {} for k in THEIRS}}
    for name in names:
        video, run = sequence_of(archive, name), msiam.load(folder(name))
        found["siamfc"][name] = one_pass(video, lambda v, p, run=run: ours(run, v, p))
        for kind in THEIRS:
            found[kind][name] = one_pass(video, lambda v, p, kind=kind: theirs(kind, v, p))
    print(table(found))
    rate = min(rate for _, rate in found["siamfc"].values())
    reached = mean(found["siamfc"]) > mean(found["KCF"]) and rate >= GOAL_RATE
    print("reached" if reached else f"missed: above KCF, at {GOAL_RATE} frames a second")
    return 0 if reached else 1


if __name__ == "__main__":
    raise SystemExit(main())
