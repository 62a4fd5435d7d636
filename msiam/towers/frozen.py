"""A frozen encoder: never trained, and so run once an item."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from msiam.towers.encoder import Batch, Encoder, Rejected
from msiam.towers.encoding import run_items
from msiam.towers.inference import EXACT, How


class Frozen(Encoder):
    """An encoder around another that is not to learn.

    Its features are the other's vectors: what is prepared once an item and kept is then all of the
    work, and a step of training only reads it. Nothing is augmented or dropped out.

    Locking a pretrained encoder and training the other tower to meet it is LiT (Zhai et al., 2022).
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__(encoder.options)
        self.encoder = encoder.requires_grad_(False).eval()
        self.modality, self.reads_files = encoder.modality, encoder.reads_files  # type: ignore[misc]

    @property
    def dim(self) -> int:
        return self.encoder.dim

    def accepts(self, item: object) -> bool:  # type: ignore[override]  # asks the one inside
        return self.encoder.accepts(item)

    def train(self, mode: bool = True) -> Self:
        self.training = mode  # and no more: the encoder inside evaluates, whatever is said
        return self

    def fit(self, items: Iterable[Any]) -> None:
        self.encoder.fit(items)
        self.encoder.requires_grad_(False).eval()

    def restore(self, folder: Path) -> None:
        self.encoder.restore(folder)
        self.encoder.requires_grad_(False).eval()

    def save(self, folder: Path) -> None:
        self.encoder.save(folder)

    def prepare(self, items: Sequence[Any]) -> list[np.ndarray | Rejected]:
        return self.embed(items, EXACT)

    def embed(self, items: Sequence[Any], how: How) -> list[np.ndarray | Rejected]:
        """The other's vectors, (d,) each, or why an item cannot be read."""
        vectors, rejected = run_items(self.encoder, self.encoder, items, self.dim, how=how)
        reasons, read = dict(rejected), iter(vectors)
        return [Rejected(reasons[n]) if n in reasons else next(read) for n in range(len(items))]

    def collate(self, features: Sequence[np.ndarray]) -> Batch:
        return {"vectors": torch.from_numpy(np.stack(features))}

    def forward(self, batch: Batch) -> Tensor:
        """Vectors (B, d) as they are, in the precision of the weights behind them."""
        weights = next(self.encoder.parameters(), batch["vectors"])
        return batch["vectors"].to(weights.dtype)

    def fingerprint(self) -> str:
        return self.encoder.fingerprint()

    def features_fingerprint(self) -> str:
        return f"frozen {self.encoder.fingerprint()}"
