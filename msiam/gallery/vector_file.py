"""A file of raw vectors (.npy): written as they come, mapped to be read."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from msiam.errors import GalleryError
from msiam.gallery.stored import REMEDY

ROWS = 1 << 16  # read at a time


class VectorWriter:
    """Writes (n, dim) float32, chunk by chunk; n and dim are known when it is closed."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self.count = self.dim = 0

    def write(self, vectors: np.ndarray) -> None:
        """Append vectors, (m, dim) float32. The first ones say how wide they are."""
        if not self.dim:
            self.dim = vectors.shape[1]
            self._file.write(_head(0, self.dim))
        self._file.write(np.ascontiguousarray(vectors, np.float32).data)
        self.count += len(vectors)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._file:
            if kind is None:
                self._file.seek(0)  # NumPy leaves room in the head for any number of rows
                self._file.write(_head(self.count, self.dim))


class VectorFile:
    """Raw vectors on disk, which may be gone through any number of times, or looked up."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._vectors: np.memmap = np.load(path, mmap_mode="r")
        except ValueError as error:
            raise GalleryError(f"{path}: holds no vectors ({error}); {REMEDY}") from error

    def __len__(self) -> int:
        return len(self._vectors)

    def __iter__(self) -> Iterator[np.ndarray]:
        """In chunks, which are read: what is mapped would count as memory."""
        dim = self._vectors.shape[1]
        with self._path.open("rb") as file:
            file.seek(self._vectors.offset)
            for start in range(0, len(self), ROWS):
                rows = min(ROWS, len(self) - start)
                yield np.fromfile(file, np.float32, rows * dim).reshape(rows, dim)

    def take(self, positions: np.ndarray) -> np.ndarray:
        """Those at ascending positions, (n, dim); a run of them is not copied."""
        return taken(self._vectors, positions)


def taken(vectors: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Rows at some positions; of a run of them a view, and no copy."""
    if len(positions) and np.array_equal(
        positions, np.arange(positions[0], positions[0] + len(positions))
    ):
        return np.asarray(vectors[positions[0] : positions[0] + len(positions)])
    return np.asarray(vectors[positions])


def _head(count: int, dim: int) -> bytes:
    head = io.BytesIO()
    shape = {"descr": "<f4", "fortran_order": False, "shape": (count, dim)}
    np.lib.format.write_array_header_1_0(head, shape)
    return head.getvalue()
