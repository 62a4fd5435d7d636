"""Vectors to hits: what every search of a gallery comes to."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import partial
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import numpy as np

from msiam.errors import GalleryError
from msiam.gallery.backend import as_vectors
from msiam.gallery.columns import Columns
from msiam.gallery.exact import nothing
from msiam.gallery.filters import Filter
from msiam.gallery.hits import Hits, Read, as_hits
from msiam.gallery.manifest import Manifest
from msiam.gallery.ranking import Rules, ranked

if TYPE_CHECKING:
    import pyarrow as pa


class SearchOptions(TypedDict, total=False):
    """What every search takes, by keyword.

    Attributes:
        where: only records that pass a filter, as ``price < 50 and colour = 'Blue'``: see
            ``Filter``. The nearest of them are found, whatever the index.
        threshold: only hits with this score at least; "run": with the run's decision threshold.
        group: a column: of the records with the same value only the best is a hit. Those without
            a value each stand for themselves.
        exact: go through all vectors, whatever the index.
    """

    where: str | None
    threshold: float | Literal["run"] | None
    group: str | None
    exact: bool


class Searchable(ABC):
    """Records with their vectors, as a gallery brings them.

    Attributes:
        threshold: the run's decision threshold, where the gallery was opened with its run.
    """

    folder: Path
    manifest: Manifest
    threshold: float | None = None
    _kept: tuple[Manifest, Columns] | None = None

    @abstractmethod
    def __len__(self) -> int:
        """How many records there are."""

    @abstractmethod
    def nearest(
        self, vectors: Any, k: int = 10, among: np.ndarray | None = None, exact: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Scores and positions, (q, k), of the nearest records."""

    @abstractmethod
    def vectors(self, positions: np.ndarray) -> np.ndarray:
        """The vectors at n positions, (n, dim) float32."""

    @property
    @abstractmethod
    def _reader(self) -> Read:
        """Reads the records that are there now, also when the gallery has changed since."""

    def records(self, positions: np.ndarray) -> list[tuple[str, dict[str, Any]]]:
        """The ids and records at n positions."""
        return self._reader(np.asarray(positions))

    @abstractmethod
    def find(self, ids: Sequence[str]) -> np.ndarray:
        """The position of each id, (n,) int64; −1 where there is no such record."""

    @property
    @abstractmethod
    def record_type(self) -> pa.StructType:
        """The columns of records, with their types."""

    @abstractmethod
    def batches(self) -> Iterator[pa.RecordBatch]:
        """All records, in batches with the columns ``id`` and ``record``."""

    @property
    def columns(self) -> Columns:
        """What stands in the columns of the records, of which filters and groups ask."""
        if self._kept is None or self._kept[0] is not self.manifest:
            columns = Columns(self.record_type, self.manifest.id, self.batches)
            self._kept = self.manifest, columns
        return self._kept[1]

    def checked(self, vectors: Any, k: int) -> np.ndarray:
        """Vectors to search with, as (q, dim) float32.

        Raises:
            GalleryError: they have another width, are zero, or hold NaN; k is no whole number
                from 1 on.
        """
        if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
            raise GalleryError(f"k: found {k!r}; the number of hits must be 1 or more")
        what = f"{self.folder}: vectors to search"
        queries = as_vectors(vectors, self.manifest.dim, what)
        zero = np.flatnonzero(~queries.any(axis=1))
        if len(zero):
            raise GalleryError(f"{what}: row {zero[0]} is zero, which is near nothing")
        return queries

    def hits(
        self,
        vectors: Any,
        k: int,
        excluded: Sequence[np.ndarray] | None = None,
        *,
        where: str | None = None,
        threshold: float | Literal["run"] | None = None,
        group: str | None = None,
        exact: bool = False,
    ) -> list[Hits]:
        """The hits of each of the vectors, (q, dim): as ``Gallery.search_vectors``.

        Args:
            excluded: for each vector, the positions of records that are no hits of it.
        """
        if not len(self):  # and so no columns that could be asked
            if where is not None:
                Filter(where)
            queries = self.checked(vectors, k)
            return as_hits(*nothing(len(queries), 0), self._reader)
        if where is None and threshold is None and group is None and excluded is None:
            scores, positions = self.nearest(vectors, k, exact=exact)
        else:
            among = None if where is None else self.columns.passing(where)
            rules = Rules(
                -np.inf if threshold is None else self._score(threshold),
                None if group is None else self.columns.groups(group),
                excluded,
            )
            scores, positions = self._ranked(vectors, k, among, rules, exact)
        return as_hits(scores, positions, self._reader)

    def _ranked(
        self, vectors: Any, k: int, among: np.ndarray | None, rules: Rules, exact: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Scores and positions of hits, as ``nearest`` gives them."""
        queries = self.checked(vectors, k)
        available = len(self) if among is None else int(among.sum())
        size = min(int(k), available)
        nearest = partial(self.nearest, among=among, exact=exact)
        scores, positions, short = ranked(queries, size, available, rules, nearest)
        if rules.groups is not None and short.any():
            # The index has no more to give, as where the lists that it looked into are gone
            # through, and elsewhere there may be other groups.
            nearest = partial(self.nearest, among=among, exact=True)
            found = ranked(queries[short], size, available, rules.of(short), nearest)
            scores[short], positions[short] = found[:2]
        return scores, positions

    def _score(self, threshold: Any) -> float:
        """A threshold as a number.

        Raises:
            GalleryError: it is none, or the run has none.
        """
        if threshold == "run":
            if self.threshold is None:
                raise GalleryError(
                    f"{self.folder}: has no threshold of a run, since it was opened without one, "
                    "or with a model alone; give a number"
                )
            return self.threshold
        number = isinstance(threshold, Real) and not isinstance(threshold, bool)
        if not number or math.isnan(threshold):
            raise GalleryError(f"threshold: found {threshold!r:.80}; give a number, or 'run'")
        return float(threshold)
