"""Vectors to search with, from a file that NumPy wrote."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from msiam.errors import GalleryError
from msiam.gallery.backend import as_vectors


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
