"""The contract of an index backend: what searches a gallery's vectors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from msiam.errors import GalleryError
from msiam.registry.options import Options


class Backend(ABC):
    """Vectors, and the search for those with the largest inner product. A plugin subclasses this.

    A backend knows no ids: a vector is called by its position, in the order in which ``build`` was
    given the vectors, from 0. The gallery's catalogue turns positions into records. Embeddings are
    L2-normalised unless their tower was told otherwise, so that the inner product is the cosine.
    """

    Options: ClassVar[type[Options]] = Options

    @classmethod
    def options_for(cls, options: Any, count: int) -> Any:
        """The options of ``count`` more vectors, which are added to a gallery with ``options``.

        What is worth its cost for all of a gallery may not be for a few more records.
        """
        return options

    @classmethod
    @abstractmethod
    def build(cls, vectors: Iterable[np.ndarray], dim: int, options: Any) -> Self:
        """Index vectors, which come in chunks of (n, dim) float32.

        Args:
            vectors: a backend that must see them twice goes through them twice where that is
                possible; of an iterator, which can be gone through once, it keeps them on disk.
            dim: their width.
            options: of the class ``Options``.

        Raises:
            GalleryError: there are no vectors, they have another width, or the options do not fit.
        """

    @classmethod
    @abstractmethod
    def open(cls, path: Path, options: Any) -> Self:
        """Read what ``save`` wrote.

        Raises:
            GalleryError: the file cannot be read.
            FileNotFoundError: it is not there: the gallery is being replaced by a newer one.
        """

    @abstractmethod
    def save(self, path: Path) -> None:
        """Write one file.

        Raises:
            OSError: the system refuses, for example because the disk is full. A file that is cut
                off must never pass for a whole one.
        """

    @classmethod  # noqa: B027 (mostly there is nothing to do)
    def discard(cls, path: Path) -> None:
        """Called before a gallery deletes a file that ``save`` wrote, or began to write.

        An engine elsewhere drops what the file stands for, and must find all that it needs for
        that in the file. It raises nothing where there is no such file, or no whole one.
        """

    @abstractmethod
    def search(
        self, queries: np.ndarray, k: int, among: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k vectors with the largest inner product, the best first.

        Args:
            queries: (q, dim) float32.
            k: how many, at least 1; it may exceed the number of vectors.
            among: (len,) bool: only these positions may be found. None: all may.

        Returns:
            Scores, (q, k) float32, descending, and positions, (q, k) int64. Where fewer than k are
            found, the rest has position -1 and score -inf.

        Raises:
            GalleryError: the queries have another width, or hold NaN; ``among`` has another
                length, or is given to a backend without ``filters``.
        """

    @abstractmethod
    def __len__(self) -> int:
        """How many vectors it holds."""

    @property
    @abstractmethod
    def dim(self) -> int:
        """The width of its vectors."""

    @property
    def exact(self) -> bool:
        """Whether ``search`` always finds the very nearest. ``check_backend`` holds it to that."""
        return False

    @property
    def filters(self) -> bool:
        """Whether ``search`` always finds the very nearest ``among`` some positions.

        Where it does not, a gallery goes through the raw vectors instead. ``check_backend`` holds
        it to that.
        """
        return False

    @property
    def reconstructs(self) -> bool:
        """Whether ``reconstruct`` gives the vectors back as they were.

        Where it does not, a gallery keeps them in a file of its own. ``check_backend`` holds it
        to that.
        """
        return False

    def reconstruct(self, positions: np.ndarray) -> np.ndarray:
        """The vectors at some positions: (n,) int64 in, (n, dim) float32 out.

        Raises:
            GalleryError: it does not reconstruct, or an engine elsewhere cannot be asked.
        """
        raise GalleryError(f"{type(self).__name__}: does not keep vectors as they were")


def as_mask(among: Any, count: int) -> np.ndarray:
    """``among`` as (count,) bool.

    Raises:
        GalleryError: it is something else.
    """
    mask = np.asarray(among)
    if mask.dtype != np.bool_ or mask.shape != (count,):
        raise GalleryError(f"among: found {mask.dtype} {mask.shape}, and bool ({count},) is right")
    return mask


def as_vectors(values: Any, dim: int, what: str) -> np.ndarray:
    """``values`` as (n, dim) float32, contiguous; ``what`` begins each message.

    Raises:
        GalleryError: they are no numbers, have another width, or hold NaN or infinity.
    """
    try:
        vectors = np.ascontiguousarray(values, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise GalleryError(f"{what}: are no array of numbers ({error}); give (n, {dim})") from error
    if vectors.ndim != 2 or vectors.shape[1] != dim:
        raise GalleryError(f"{what}: found shape {vectors.shape}, and (n, {dim}) is right")
    finite = np.isfinite(vectors)
    if not finite.all():
        bad = np.argmin(finite.all(axis=1))
        raise GalleryError(f"{what}: row {bad} holds NaN or infinity; vectors must be finite")
    return vectors
