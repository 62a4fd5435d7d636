"""From raw items to embeddings: prepare, sort by length, batch, forward, order restored."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from msiam.towers.encoder import Encoder, Rejected
from msiam.towers.encoding import Progress as Progress
from msiam.towers.encoding import run_features, run_items
from msiam.towers.feature_cache import prepare_kept
from msiam.towers.frozen import Frozen
from msiam.towers.inference import EXACT, How
from msiam.towers.kept_layers import KeptLayers
from msiam.towers.tower import Tower

#: Items of a frozen encoder embedded at once.
CHUNK = 4096


def located(item: Any, root: Path | None, encoder: Encoder) -> Any:
    """A file's name, for an encoder that reads files, as its full path; all else as it is.

    Args:
        item: a picture whose ``bytes`` are empty counts as its ``path``, as ``datasets`` has it.
        root: the folder in which relative names are looked for; None: where msiam runs.
    """
    if isinstance(item, dict) and "bytes" in item and not item["bytes"]:
        name = item.get("path")
        item = name if encoder.reads_files or not name else item
    if encoder.reads_files and isinstance(item, str) and item.strip() and "\0" not in item:
        return os.path.realpath(item if root is None else root / item)
    return item


def embed_features(
    tower: Tower,
    features: Sequence[np.ndarray],
    progress: Progress | None = None,
    how: How = EXACT,
) -> np.ndarray:
    """Embeddings (n, dim) float32 of prepared features, in their order."""
    return run_features(tower, tower.encoder, features, tower.dim, progress, how)


def embed_items(
    tower: Tower,
    items: Sequence[Any],
    root: Path | None = None,
    progress: Progress | None = None,
    how: How = EXACT,
) -> tuple[np.ndarray, list[tuple[int, str]]]:
    """Embed raw items; those that cannot be read are set aside.

    Args:
        items: n raw items.
        root: the folder in which relative file names are looked for.

    Returns:
        The embeddings of the readable items, (m, dim) float32, in order, and for each other item
        its number and the reason.
    """
    encoder = tower.encoder
    items = [located(item, root, encoder) for item in items]
    # Only what is exact is kept.
    kept = how.keep and how.precision == "fp32"
    if not isinstance(encoder, Frozen):
        states = KeptLayers(tower, items).states if kept and tower.frozen else None
        return run_items(tower, encoder, items, tower.dim, progress, how, states)
    vectors = [np.empty((0, tower.dim), np.float32)]
    rejected: list[tuple[int, str]] = []
    for start, chunk in chunks(items):
        found = prepare_kept(encoder, chunk) if kept else encoder.embed(chunk, how)
        rejected += [(start + n, f.reason) for n, f in enumerate(found) if isinstance(f, Rejected)]
        readable = [feature for feature in found if not isinstance(feature, Rejected)]
        vectors.append(embed_features(tower, readable, progress, how))
    return np.concatenate(vectors), rejected


def chunks(items: Sequence[Any], size: int = CHUNK) -> Iterator[tuple[int, Sequence[Any]]]:
    """Runs of at most ``size`` items with the number of their first."""
    for start in range(0, len(items), size):
        yield start, items[start : start + size]
