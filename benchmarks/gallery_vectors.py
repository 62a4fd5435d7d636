"""Vectors for the benchmarks of galleries, and what stands for the model that made them."""

from __future__ import annotations

from typing import Any

import numpy as np


class Given:
    """Stands for a model: a row's number to its vector."""

    def __init__(self, vectors: np.ndarray) -> None:
        self.columns = {"row": "row"}
        self._vectors = vectors

    def fingerprint(self) -> str:
        return "given"

    def embed(
        self, column: str, items: list[int], root: Any = None, progress: Any = None, how: Any = None
    ) -> tuple[np.ndarray, list[tuple[int, str]]]:
        return self._vectors[items], []


def clustered(count: int, seed: int, dim: int, clusters: int, spread: float) -> np.ndarray:
    """Unit vectors round centres, (count, dim) float32; those of all seeds share the centres."""
    centres = np.random.default_rng(0).normal(size=(clusters, dim))
    rng = np.random.default_rng(seed)
    vectors = centres[rng.integers(0, clusters, count)] + spread * rng.normal(size=(count, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
