"""Queries from files: vectors that NumPy wrote, or a table whose items are embedded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from msiam.errors import GalleryError
from msiam.gallery.arrays import integers
from msiam.gallery.backend import as_vectors
from msiam.gallery.building import ROWS, Embedder, check_column

if TYPE_CHECKING:
    from msiam.data.streams import Stream


def read_vectors(path: Path, dim: int) -> np.ndarray:
    """The vectors of a .npy file, (q, dim) float32; one alone may be (dim,).

    Raises:
        GalleryError: there is no such file, it is another one, or its vectors have another width
            or hold NaN.
    """
    try:
        found = np.load(path, allow_pickle=False)
    except OSError as error:
        raise GalleryError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, EOFError) as error:
        raise GalleryError(f"{path}: is no .npy file of numbers; write it with numpy.save") from (
            error
        )
    if not isinstance(found, np.ndarray):
        raise GalleryError(f"{path}: holds several arrays; give a .npy file of one")
    return as_vectors(found[None] if found.ndim == 1 else found, dim, str(path))


def table_queries(
    model: Embedder, table: Stream, column: str, seed: int, most: int = 2000
) -> np.ndarray:
    """Embeddings of a table's column, (q, dim) float32: of ``most`` rows, which ``seed`` draws.

    Raises:
        GalleryError: the model has no such column, or no item can be embedded.
        DataError: the table has none, or cannot be read.
    """
    check_column(model, column)
    table.require(column)
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(len(table), min(most, len(table)), replace=False))
    found = []
    for start, window in table.windows([column], ROWS):
        rows = chosen[(chosen >= start) & (chosen < start + len(window))] - start
        if len(rows):
            items = window.column(column).take(integers(rows)).to_pylist()
            found.append(model.embed(column, items, table.root)[0])
    if not sum(map(len, found)):
        raise GalleryError(f"{table.name}: nothing of its column '{column}' can be embedded")
    return np.concatenate(found)
