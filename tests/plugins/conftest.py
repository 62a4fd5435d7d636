from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest


@pytest.fixture(scope="session")
def toy():
    """A model that needs no training, and its table: what tests/gallery/toy.py holds."""
    path = Path(__file__).parents[1] / "gallery" / "toy.py"
    return SimpleNamespace(**runpy.run_path(str(path)))
