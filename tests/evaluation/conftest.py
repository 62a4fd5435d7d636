"""Small held-out parts, written by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest

from msiam.data.examples import Examples
from msiam.evaluation.evaluator import Embedded


def build(
    columns: Mapping[str, Sequence[int]],
    groups: Mapping[str, Sequence[int]],
    vectors: Mapping[str, Sequence[Sequence[float]]],
    towers: Mapping[str, str] | None = None,
    same: Sequence[bool] | None = None,
    classed: bool = False,
) -> Embedded:
    """Columns (item numbers) and groups by row; vectors by tower, a column's own by default."""
    rows = np.arange(len(next(iter(columns.values())))) + 100
    examples = Examples(
        {name: np.asarray(numbers, dtype=np.int64) for name, numbers in columns.items()},
        {name: np.asarray(numbers, dtype=np.int64) for name, numbers in groups.items()},
        None if same is None else np.asarray(same, dtype=bool),
        rows,
        classed=classed,
    )
    return Embedded(
        examples,
        {tower: np.asarray(v, dtype=np.float32) for tower, v in vectors.items()},
        dict(towers) if towers else {name: name for name in columns},
    )


@pytest.fixture(scope="session")
def make() -> Callable[..., Embedded]:
    return build


@pytest.fixture(scope="session")
def aligned() -> Callable[..., Embedded]:
    """n pairs of random unit vectors, a's and b's more alike the less ``noise`` there is."""

    def pairs(n: int, noise: float = 1.0, dim: int = 16, seed: int = 0) -> Embedded:
        rng = np.random.default_rng(seed)
        a = rng.normal(size=(n, dim))
        b = a + noise * rng.normal(size=(n, dim))
        unit = {
            name: v / np.linalg.norm(v, axis=1, keepdims=True)
            for name, v in {"a": a, "b": b}.items()
        }
        numbers = {"a": range(n), "b": range(n)}
        return build(numbers, numbers, unit)

    return pairs
