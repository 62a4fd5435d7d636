from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pydantic
import torch

from msiam import Encoder, Options, Rejected


class LettersOptions(Options):
    width: int = pydantic.Field(8, gt=0)
    tied: bool = pydantic.Field(False, description="one matrix under two names")


class Letters(Encoder):
    """A text to the mean of what its letters are embedded as. The alphabet is learnt."""

    Options = LettersOptions
    modality = "text"

    def fit(self, items):
        self.build("".join(sorted({letter for item in items for letter in item})))

    def build(self, alphabet):
        self.alphabet = alphabet
        self.embedding = torch.nn.Embedding(len(alphabet) + 2, self.options.width, padding_idx=0)
        if self.options.tied:
            self.again = torch.nn.Embedding(len(alphabet) + 2, self.options.width)
            self.again.weight = self.embedding.weight

    @property
    def dim(self):
        return self.options.width

    @classmethod
    def accepts(cls, item):
        return isinstance(item, str)

    def prepare(self, items):
        return [self.one(item) for item in items]

    def one(self, item):
        if not isinstance(item, str) or not item.strip():
            return Rejected("no letters in it")
        # str.find gives −1, so 1, to a letter that is not in the alphabet; 0 fills up.
        return np.array([self.alphabet.find(letter) + 2 for letter in item], np.int64)

    def collate(self, features):
        longest = max(map(len, features))
        rows = [np.pad(feature, (0, longest - len(feature))) for feature in features]
        return {"letters": torch.from_numpy(np.stack(rows))}

    def forward(self, batch):
        there = (batch["letters"] > 0)[:, :, None]
        return (self.embedding(batch["letters"]) * there).sum(1) / there.sum(1)

    def cost(self, feature):
        return len(feature)

    def save(self, folder: Path):
        (folder / "alphabet.json").write_text(json.dumps(self.alphabet))

    def restore(self, folder: Path):
        self.build(json.loads((folder / "alphabet.json").read_text()))

    def fingerprint(self):
        return hashlib.sha256((super().fingerprint() + self.alphabet).encode()).hexdigest()


class Pixels(Encoder):
    """A .pix file, or bytes, to its first four bytes."""

    modality = "image"
    reads_files = True

    def fit(self, items):
        self.linear = torch.nn.Linear(4, 5)

    @property
    def dim(self):
        return 5

    @classmethod
    def accepts(cls, item):
        return isinstance(item, bytes) or (isinstance(item, str) and item.endswith(".pix"))

    def prepare(self, items):
        return [self.one(item) for item in items]

    def one(self, item):
        try:
            content = item if isinstance(item, bytes) else Path(item).read_bytes()
        except (OSError, ValueError, TypeError):
            return Rejected(f"no file {item!r}")
        if len(content) < 4:
            return Rejected("fewer than four bytes")
        return np.frombuffer(content[:4], np.uint8).copy()

    def collate(self, features):
        return {"pixels": torch.from_numpy(np.stack(features)).float() / 255}

    def forward(self, batch):
        return self.linear(batch["pixels"])


class Length(Encoder):
    """A text to its length. It has no weights at all."""

    modality = "text"

    @property
    def dim(self):
        return 2

    @classmethod
    def accepts(cls, item):
        return isinstance(item, str)

    def prepare(self, items):
        return [
            np.array([len(item), 1], np.float32) if isinstance(item, str) else Rejected("no text")
            for item in items
        ]

    def collate(self, features):
        return {"length": torch.from_numpy(np.stack(features))}

    def forward(self, batch):
        return batch["length"]
