"""Two small encoders that keep count of what they prepare, and the shared data where it is."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch

from msiam.towers.encoder import Encoder, Options, Rejected

ROOT = Path(__file__).parents[2]

hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.load_profile("unhurried")


class Words(Encoder):
    """Texts to word lengths. A text with "broken" in it cannot be read."""

    modality = "text"

    def __init__(self) -> None:
        super().__init__(Options())
        self.prepared: list[object] = []

    @property
    def dim(self) -> int:
        return 1

    @classmethod
    def accepts(cls, item):
        return isinstance(item, str)

    def prepare(self, items):
        self.prepared += items
        return [self._one(item) for item in items]

    def _one(self, item):
        if "broken" in item:
            return Rejected("it is broken")
        return np.array([len(word) for word in item.split()], np.int32)

    def collate(self, features):
        padded = torch.zeros(len(features), max(map(len, features)), dtype=torch.long)
        for row, feature in enumerate(features):
            padded[row, : len(feature)] = torch.from_numpy(feature)
        return {"lengths": padded}

    def forward(self, batch):
        return batch["lengths"].sum(1, keepdim=True).float()


class Files(Words):
    """Pictures to their bytes; reads files by name."""

    modality = "image"
    reads_files = True

    @classmethod
    def accepts(cls, item):
        if isinstance(item, str):
            return item.endswith(".png")
        return isinstance(item, dict) and set(item) == {"bytes", "path"}

    def _one(self, item):
        try:
            content = Path(item).read_bytes() if isinstance(item, str) else item["bytes"]
        except FileNotFoundError:
            return Rejected("no such file")
        return np.frombuffer(content, np.uint8).copy()


@pytest.fixture
def words():
    return Words()


@pytest.fixture
def files():
    return Files()


@pytest.fixture
def shared():
    """The folder of shared data; a test that asks for it is skipped where there is none."""
    folder = Path(os.environ.get("MSIAM_DATA", ROOT / "../shared/data"))
    if not folder.is_dir():
        pytest.skip(f"needs the shared data in {folder}; MSIAM_DATA names another folder")
    return folder
