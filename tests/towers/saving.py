"""Run as a script: a model is saved over another, and the process killed at every step of that.

For each step in the folder, in turn: the old model is saved, a child process begins to save the
new one and is killed at that step, and what lies there is loaded. It prints the number of steps,
and of loads that gave the old and the new model.
"""

from __future__ import annotations

import importlib
import os
import shutil
import signal
import sys
from itertools import count
from pathlib import Path

import torch

from msiam import Model
from msiam.registry import registry


def made(seed: int) -> Model:
    torch.manual_seed(seed)
    model = Model({"t": {"encoder": "letters", "dim": 4}}, {"a": "t", "b": "t"})
    model.tower("t").fit(["abc"])
    return model


def save_until(model: Model, folder: Path, last: int) -> None:
    """Save, and be killed at step ``last``: a file opened or renamed, a folder made or removed."""
    steps = count(1)

    def watch(event: str, arguments: tuple) -> None:
        ours = event.startswith(("open", "os.", "shutil.")) and str(folder.parent) in str(arguments)
        if ours and next(steps) == last:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    model.save(folder)


def main(place: Path) -> None:
    old, new = made(0), made(1)
    found = {old.fingerprint(): 0, new.fingerprint(): 0}
    for step in count(1):
        shutil.rmtree(place, ignore_errors=True)
        folder = place / "model"
        old.save(folder)
        child = os.fork()
        if not child:
            save_until(new, folder, step)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        found[Model.load(folder).fingerprint()] += 1
        new.save(folder)  # what the dead left behind is in nobody's way
        assert Model.load(folder).fingerprint() == new.fingerprint()
        assert [path.name for path in place.iterdir()] == ["model"], list(place.iterdir())
        if status == 0:
            print(step, *found.values())
            return


torch.set_num_threads(1)
sys.path.insert(0, str(Path(__file__).parent / "plugin"))
registry().add(importlib.import_module("tiny_plugin"), "tiny_plugin")
main(Path(sys.argv[1]))
