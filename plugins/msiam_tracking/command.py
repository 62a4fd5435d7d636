"""msiam track: follow a target through a film or the frames of one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def track(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    video: Annotated[
        Path,
        typer.Argument(help="A film, a folder of pictures, or a sequence of an archive (a.zip/B)."),
    ],
    box: Annotated[
        str | None,
        typer.Option(help="The target in the first frame: x,y,w,h [the true one, if known]."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Where to: a folder [tracks/NAME].")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Write the target's boxes, a film that shows them, and how well they agree with the truth.

    The truth is known where groundtruth_rect.txt lies beside the frames.
    """
    from msiam_tracking.following import follow

    figures = follow(run, video, box, out or Path("tracks") / video.stem)
    if json:
        import json as writer

        print(writer.dumps(figures, indent=1))
        return
    print(f"{figures['frames']:,} frames, {figures['frames_per_second']:.1f} a second")
    if "success_auc" in figures:
        print(f"success AUC {figures['success_auc']:.3f}, precision {figures['precision_20']:.3f}")
    print(figures["folder"])
