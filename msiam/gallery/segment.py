"""A segment, opened: records that were written together, without those that were removed since.

A position in a segment counts the records that are left, in the order in which they were written.
The index and the files count all: their positions are called places here.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from msiam.errors import GalleryError
from msiam.gallery.arrays import integers
from msiam.gallery.backend import Backend, as_mask
from msiam.gallery.catalogue import Catalogue
from msiam.gallery.exact import Found, nearest_among, nothing
from msiam.gallery.manifest import SegmentFiles
from msiam.gallery.stored import REMEDY
from msiam.gallery.vector_file import ROWS, VectorFile
from msiam.registry.options import parse_options


class Segment:
    """What its files hold. They stay readable for whoever has them open, swept or not.

    Attributes:
        files: what the manifest says of it.
        dead: the places of the records that were removed, ascending.
    """

    def __init__(
        self,
        files: SegmentFiles,
        catalogue: Catalogue,
        index: Backend,
        vectors: VectorFile | None,
        dead: np.ndarray,
    ) -> None:
        self.files = files
        self.catalogue = catalogue
        self.dead = dead
        self._index = index
        self._vectors = index.reconstruct if vectors is None else vectors.take
        self._shifts = dead - np.arange(len(dead))  # how many are left before each dead one

    @classmethod
    def open(cls, folder: Path, files: SegmentFiles, kind: type[Backend]) -> Segment:
        """Check and open its files.

        Raises:
            GalleryError: a file has changed or is cut off, or does not fit the others.
            FileNotFoundError: a file is not there.
        """
        options = parse_options(kind, files.options, f"{folder}: {files.index.name}")
        catalogue = Catalogue(files.catalogue.check(folder))
        index = kind.open(files.index.check(folder), options)
        vectors = VectorFile(files.vectors.check(folder)) if files.vectors else None
        dead = np.load(files.dead.check(folder)) if files.dead else np.empty(0, np.int64)
        if len(index) != files.count:
            raise GalleryError(
                f"{folder / files.index.name}: has {len(index)} vectors and had {files.count}; "
                f"{REMEDY}"
            )
        return cls(files, catalogue, index, vectors, dead)

    def __len__(self) -> int:
        return self.files.count - len(self.dead)

    def nearest(self, queries: np.ndarray, k: int, exact: bool = False) -> Found:
        """The nearest records, as the index finds them, or all those that are nearest."""
        if exact and not self._index.exact:
            return self.nearest_among(queries, k, np.ones(len(self), bool))
        if not len(self.dead):
            return self._index.search(queries, k)
        return self._nearest_alive(queries, k)

    def _nearest_alive(self, queries: np.ndarray, k: int) -> Found:
        """As the index finds them beside the dead: some more are asked for.

        Twice as many again where too few of these are left. Where the index has no more to give,
        and gave enough if only they were alive, all vectors are gone through.
        """
        result = nothing(len(queries), k)
        count = self.files.count
        # The last of what a graph gives are its worst: of those twice as many must be left.
        enough = k if self._index.exact else min(2 * k, len(self))
        size = min(count, enough + -(-2 * enough * len(self.dead) // count) + 8)
        asked = np.arange(len(queries))
        while len(asked):
            scores, places = self._index.search(queries[asked], size)
            alive = (places >= 0) & ~self._is_dead(places)
            order = np.argsort(~alive, axis=1, kind="stable")[:, :k]
            kept = np.take_along_axis(alive, order, 1)
            best = np.take_along_axis(scores, order, 1)
            positions = self._positions(np.take_along_axis(places, order, 1))
            width = order.shape[1]
            result[0][asked, :width] = np.where(kept, best, -np.inf)
            result[1][asked, :width] = np.where(kept, positions, -1)
            short = alive.sum(axis=1) < enough
            ended = (places[:, -1] < 0) | (size == count)
            lost = asked[(alive.sum(axis=1) < k) & ended & ((places >= 0).sum(axis=1) >= k)]
            if len(lost):
                everything = np.ones(len(self), bool)
                found = self.nearest_among(queries[lost], k, everything)
                result[0][lost], result[1][lost] = found
            asked = asked[short & ~ended]
            size = min(count, 2 * size)
        return result

    def nearest_among(self, queries: np.ndarray, k: int, among: np.ndarray) -> Found:
        """The very nearest of some records: ``among`` is (len,) bool."""
        mask = as_mask(among, len(self))
        if self._index.filters:
            whole = np.insert(mask, self._shifts, False)
            scores, places = self._index.search(queries, k, among=whole)
        else:
            kept = self._places(np.flatnonzero(mask))
            scores, places = nearest_among(queries, k, kept, self._vectors)
        return scores, self._positions(places)

    def vectors(self, positions: np.ndarray) -> np.ndarray:
        """Those at n positions, (n, dim)."""
        return self._vectors(self._places(positions))

    def all_vectors(self) -> Iterator[np.ndarray]:
        """All vectors, in chunks, in the order of positions."""
        for start in range(0, len(self), ROWS):
            yield self.vectors(np.arange(start, min(start + ROWS, len(self))))

    def records(self, positions: np.ndarray) -> pa.RecordBatch:
        """The ids and records at n positions."""
        return self.catalogue.take(self._places(positions))

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All ids and records, in batches, in the order of positions."""
        end = 0
        for batch in self.catalogue.batches:
            start, end = end, end + len(batch)
            first, last = np.searchsorted(self.dead, [start, end])
            if first < last:
                rows = np.delete(np.arange(len(batch)), self.dead[first:last] - start)
                batch = batch.take(integers(rows))
            if len(batch):
                yield batch

    def find(self, ids: pa.Array) -> tuple[np.ndarray, np.ndarray]:
        """Which of some ids are there, by their numbers, and at which positions, ascending."""
        numbers, places = self.catalogue.find(ids)
        alive = ~self._is_dead(places)
        return numbers[alive], self._positions(places[alive])

    def dead_with(self, positions: np.ndarray) -> np.ndarray:
        """The places of the dead, once the records at these positions are removed."""
        return np.union1d(self.dead, self._places(positions))

    def _places(self, positions: np.ndarray) -> np.ndarray:
        return positions + np.searchsorted(self._shifts, positions, side="right")

    def _positions(self, places: np.ndarray) -> np.ndarray:
        return places - np.searchsorted(self.dead, places)

    def _is_dead(self, places: np.ndarray) -> np.ndarray:
        if not len(self.dead):
            return np.zeros(places.shape, bool)
        nearest = np.minimum(np.searchsorted(self.dead, places), len(self.dead) - 1)
        return self.dead[nearest] == places
