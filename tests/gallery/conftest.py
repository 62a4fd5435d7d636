from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest


@pytest.fixture(scope="session")
def toy():
    """What toy.py holds (the model ``Toy`` and helpers), and its path."""
    path = Path(__file__).with_name("toy.py")
    return SimpleNamespace(**runpy.run_path(str(path)), path=path)
