"""What items hold: those of the same text or the same bytes are one, wherever they come from."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from msiam.towers.encoder import Encoder


class Contents:
    """Numbers contents from 0, in order of appearance."""

    def __init__(self) -> None:
        self._known: dict[Hashable, int] = {}

    def __len__(self) -> int:
        return len(self._known)

    def number(self, item: Any, encoder: Encoder) -> int:
        """The number of an item's content. A file, by its full name, is read for it."""
        return self._known.setdefault(_content(item, encoder), len(self._known))

    def of(self, items: Iterable[Any], encoder: Encoder) -> np.ndarray:
        """The numbers of several items' contents, (n,) int64."""
        return np.array([self.number(item, encoder) for item in items], np.int64)


def identity(item: Any) -> Hashable:
    """What two items share if and only if they are the same item; of a file, its name."""
    if isinstance(item, str):
        return item
    content = item.get("bytes") if isinstance(item, dict) else item
    if isinstance(content, bytes):
        return _digest(content)
    return type(item), repr(item)


def _content(item: Any, encoder: Encoder) -> Hashable:
    if encoder.reads_files and isinstance(item, str):
        try:
            return _digest(Path(item).read_bytes())
        except (OSError, ValueError):  # it will be rejected
            return item
    return identity(item)


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()
