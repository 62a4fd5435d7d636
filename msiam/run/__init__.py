"""Recipe to run: the one place where everything meets.

folder.py names a run's files, training.py makes a run, run.py opens one, report.py shows it;
mining.py mines hard negatives with one (mineable.py from what, negative_search.py how, mined.py
into what).
Each is imported when it is first asked for: whoever searches waits for no trainer.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from msiam.run.mining import mine as mine
    from msiam.run.run import Match as Match
    from msiam.run.run import Run as Run
    from msiam.run.run import load as load
    from msiam.run.run import open_gallery as open_gallery
    from msiam.run.run import open_with_run as open_with_run
    from msiam.run.training import train as train

_HOME = {
    "Match": "msiam.run.run",
    "Run": "msiam.run.run",
    "load": "msiam.run.run",
    "mine": "msiam.run.mining",
    "open_gallery": "msiam.run.run",
    "open_with_run": "msiam.run.run",
    "train": "msiam.run.training",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'msiam.run' has no attribute '{name}'")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value
