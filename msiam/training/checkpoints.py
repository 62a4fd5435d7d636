"""Checkpoints to go on from: each marked once it is whole, the last and the best kept."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import transformers

from msiam.paths import write_text
from msiam.training import processes

#: Written into a checkpoint when all of its files are there; holds the seconds spent so far.
COMPLETE = "complete"


class KeepCheckpoints(transformers.TrainerCallback):
    """Marks each checkpoint, and only then removes those that are neither the last nor the best.

    The trainer's own limit removes the old checkpoint before the new one is marked, and a process
    that is killed in between has none.

    Args:
        seconds: spent by earlier sessions of this training.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self._began = time.perf_counter() - seconds

    @property
    def seconds(self) -> float:
        """Spent on the training so far, by all of its sessions."""
        return time.perf_counter() - self._began

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        processes.wait()  # each writes the state of its random numbers
        if not processes.is_main():
            return
        folder = Path(args.output_dir)
        last = folder / f"checkpoint-{state.global_step}"
        write_text(last / COMPLETE, str(self.seconds))
        best = Path(state.best_model_checkpoint or last)
        for checkpoint in folder.glob("checkpoint-*"):
            if checkpoint.name not in (last.name, best.name):
                _remove(checkpoint)


def last_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint; those cut off in writing are removed."""
    whole = []
    for checkpoint in folder.glob("checkpoint-*"):
        if (checkpoint / COMPLETE).is_file():
            whole.append(checkpoint)
        else:
            _remove(checkpoint)
    return max(whole, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def seconds_before(checkpoint: Path | None) -> float:
    """How long the sessions took that led to a checkpoint."""
    return float((checkpoint / COMPLETE).read_text()) if checkpoint else 0.0


def _remove(checkpoint: Path) -> None:
    (checkpoint / COMPLETE).unlink(missing_ok=True)  # first: half a checkpoint must not look whole
    shutil.rmtree(checkpoint)
