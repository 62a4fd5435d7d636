from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
import torch

from msiam import Model
from msiam.registry import registry

PLUGIN = Path(__file__).parent / "plugin"
TEXTS = ["a red heart", "b", "how long is a long text, and how long is a short one?", "été", "ab"]


@pytest.fixture(scope="module", autouse=True)
def tiny():
    """The plugin of plugin/, registered in this process; gives its encoders' module."""
    sys.path.insert(0, str(PLUGIN))
    registry.cache_clear()
    registry().add(importlib.import_module("tiny_plugin"), "tiny_plugin")
    yield importlib.import_module("tiny_encoders")
    registry.cache_clear()
    sys.path.remove(str(PLUGIN))


@pytest.fixture
def texts() -> list[str]:
    return list(TEXTS)


@pytest.fixture
def model() -> Model:
    """Two towers with weights: three columns of text, of which two share one, and pictures."""
    torch.manual_seed(0)
    made = Model(
        {
            "text": {"encoder": "letters", "dim": 4},
            "title": {"encoder": "letters", "dim": 4, "width": 3, "head": "mlp"},
            "image": {"encoder": "pixels", "dim": 4},
        },
        {"caption": "text", "query": "text", "name": "title", "picture": "image"},
    )
    for name, items in {"text": TEXTS, "title": TEXTS, "image": [b"1234"]}.items():
        made.tower(name).fit(items)
    return made.eval()
