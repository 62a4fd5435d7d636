"""From raw items to embeddings: prepare, sort by length, batch, forward, order restored."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from msiam.towers.encoder import Rejected
from msiam.towers.encoding import Progress as Progress
from msiam.towers.encoding import run_features
from msiam.towers.tower import Tower

#: Rows prepared at once, so that the features of a long table never sit in memory together.
CHUNK = 4096


def located(item: Any, root: Path | None) -> Any:
    """The item; a relative file name is looked for beside its table first."""
    if root is None or not isinstance(item, str):
        return item
    with contextlib.suppress(OSError):  # a text is often longer than a file's name can be
        if (root / item).is_file():
            return str(root / item)
    return item


def embed_features(
    tower: Tower,
    features: Sequence[np.ndarray],
    batch_size: int = 64,
    progress: Progress | None = None,
) -> np.ndarray:
    """Embeddings (n, dim) float32 of prepared features, in their order."""
    return run_features(tower, tower.encoder, features, tower.dim, batch_size, progress)


def embed_items(
    tower: Tower,
    items: Sequence[Any],
    root: Path | None = None,
    batch_size: int = 64,
    progress: Progress | None = None,
) -> tuple[np.ndarray, list[tuple[int, str]]]:
    """Embed raw items; those that cannot be read are set aside.

    Args:
        items: n raw items.
        root: the folder in which relative file names are looked for.

    Returns:
        The embeddings of the readable items, (m, dim) float32, in order, and for each other item
        its number and the reason.
    """
    vectors: list[np.ndarray] = []
    rejected: list[tuple[int, str]] = []
    for start, chunk in chunks(items):
        if tower.encoder.reads_files:
            chunk = [located(item, root) for item in chunk]
        good = []
        for number, feature in enumerate(tower.encoder.prepare(chunk)):
            if isinstance(feature, Rejected):
                rejected.append((start + number, feature.reason))
            else:
                good.append(feature)
        vectors.append(embed_features(tower, good, batch_size, progress))
    empty = np.empty((0, tower.dim), dtype=np.float32)
    return np.concatenate([empty, *vectors]), rejected


def chunks(items: Sequence[Any], size: int = CHUNK) -> Iterator[tuple[int, Sequence[Any]]]:
    """Runs of at most ``size`` items with the number of their first."""
    for start in range(0, len(items), size):
        yield start, items[start : start + size]
