"""One pass over a video, and all that it leaves in a folder."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from msiam import errors, load
from msiam_tracking.frames import Video, open_video
from msiam_tracking.geometry import Box
from msiam_tracking.metrics import measure
from msiam_tracking.overlay import Overlay, plot
from msiam_tracking.tracker import Tracker


def follow(run: Path, source: Path, box: str | None, out: Path) -> dict[str, Any]:
    """Track, and write boxes.txt, overlay, metrics.json and, where the truth is known, plots.png.

    Args:
        box: "x,y,w,h" in the first frame; None: the true one.

    Returns:
        What is in metrics.json.

    Raises:
        DataError: no such video; no box, or one that is none.
        ModelError: the run's model does not keep feature maps.
    """
    video = open_video(source)
    start = first_box(video, box)
    frames = video.read()
    picture = next(frames)
    tracker = Tracker(load(run).model, picture, start)
    out.mkdir(parents=True, exist_ok=True)
    overlay = Overlay(out)
    boxes, seconds = [start], 0.0
    overlay.add(picture, start, None if video.truth is None else video.truth[0])
    for number, picture in enumerate(frames, 1):
        begun = time.perf_counter()
        boxes.append(tracker.step(picture))
        seconds += time.perf_counter() - begun
        overlay.add(picture, boxes[-1], None if video.truth is None else video.truth[number])
    overlay.close()
    lines = (",".join(f"{value:.2f}" for value in found) for found in boxes)
    (out / "boxes.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    figures: dict[str, Any] = {
        "video": video.name,
        "frames": len(boxes),
        "frames_per_second": (len(boxes) - 1) / seconds if seconds else 0.0,
        "overlay": str(overlay.path),
        "folder": str(out),
    }
    if video.truth is not None:
        found = measure(np.array(boxes), video.truth)
        plot({run.name: found}, out / "plots.png")
        figures |= {"success_auc": found.auc, "precision_20": found.near}
    (out / "metrics.json").write_text(json.dumps(figures, indent=1), encoding="utf-8")
    return figures


def first_box(video: Video, box: str | None) -> Box:
    """The target's box in the first frame, as it was asked for, or else the true one.

    Raises:
        DataError: neither is there, or it is no box.
    """
    if box is None:
        if video.truth is None or not np.isfinite(video.truth[0]).all():
            raise errors.DataError(f"{video.name}: has no true box; give the target's: --box")
        x, y, w, h = video.truth[0].tolist()
        return x, y, w, h
    try:
        x, y, w, h = (float(value) for value in box.split(","))
    except ValueError:
        w = h = 0.0
    if not (w > 0 and h > 0):
        raise errors.DataError(f"--box {box}: write it as x,y,w,h, for example --box 147,110,34,33")
    return x, y, w, h
