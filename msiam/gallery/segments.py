"""The segments of a gallery as one: positions count on from segment to segment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from msiam.errors import GalleryError
from msiam.gallery.arrays import filled, integers, texts
from msiam.gallery.backend import Backend, as_mask
from msiam.gallery.catalogue import common_type, conformed
from msiam.gallery.exact import Found, merged, nothing
from msiam.gallery.manifest import Manifest
from msiam.gallery.segment import Segment
from msiam.registry.registry import registry


class Segments:
    """All segments of a gallery, opened.

    Attributes:
        parts: they themselves.
    """

    def __init__(self, parts: list[Segment], dim: int) -> None:
        self.parts = parts
        self._dim = dim
        self._starts = np.cumsum([0, *(len(segment) for segment in parts)])

    @classmethod
    def open(cls, folder: Path, manifest: Manifest) -> Segments:
        """Open the files that a manifest names; raises as ``Segment.open``."""
        kind: type[Backend] = registry().find("backend", manifest.backend, str(folder)).load()
        opened = [Segment.open(folder, files, kind) for files in manifest.segments]
        return cls(opened, manifest.dim)

    def __len__(self) -> int:
        return int(self._starts[-1])

    @cached_property
    def type(self) -> pa.StructType:
        """The columns of all records, with types that hold those of every segment."""
        return common_type([segment.catalogue.type for segment in self.parts])

    def nearest(
        self, queries: np.ndarray, k: int, among: np.ndarray | None = None, exact: bool = False
    ) -> Found:
        """As ``Gallery.nearest``."""
        mask = None if among is None else as_mask(among, len(self))
        found = [nothing(len(queries), k)] if len(self.parts) != 1 or k > len(self) else []
        for segment, start in self._placed():
            size = min(k, len(segment))
            if mask is None:
                scores, positions = segment.nearest(queries, size, exact)
            else:
                part = mask[start : start + len(segment)]
                if not part.any():
                    continue
                scores, positions = segment.nearest_among(queries, size, part)
            found.append((scores, np.where(positions >= 0, positions + start, -1)))
        if not found:
            return nothing(len(queries), k)
        return found[0] if len(found) == 1 else merged(k, found)

    def vectors(self, positions: np.ndarray) -> np.ndarray:
        """Those at n positions, (n, dim), in their order."""
        found = np.empty((len(positions), self._dim), np.float32)
        for segment, rows, own in self._shared(positions):
            order = np.argsort(own)
            found[rows[order]] = segment.vectors(own[order])
        return found

    def all_vectors(self) -> Iterator[np.ndarray]:
        """All vectors, in chunks, in the order of positions."""
        for segment in self.parts:
            yield from segment.all_vectors()

    def records(self, positions: np.ndarray) -> list[tuple[str, dict[str, Any]]]:
        """The ids and records at n positions, in their order."""
        ids, records = (column.to_pylist() for column in self._taken(positions).columns)
        return list(zip(ids, records, strict=True))

    def _taken(self, positions: np.ndarray) -> pa.RecordBatch:
        order, parts = [], []
        for segment, rows, own in self._shared(positions):
            parts.append(conformed(segment.records(own), self.type))
            order.append(rows)
        if len(parts) == 1:
            return parts[0]
        if not parts:
            nothing_there = [pa.array([], pa.string()), pa.array([], self.type)]
            return pa.record_batch(nothing_there, names=["id", "record"])
        return pa.concat_batches(parts).take(integers(np.argsort(np.concatenate(order))))

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All ids and records, in batches of one type, in the order of positions."""
        return (
            conformed(batch, self.type) for segment in self.parts for batch in segment.batches()
        )

    def find(self, ids: Sequence[str] | pa.Array) -> np.ndarray:
        """The position of each id, (n,) int64; −1 where there is no such record.

        Raises:
            GalleryError: they are no list of texts.
        """
        if not isinstance(ids, pa.Array) and (
            isinstance(ids, str) or not all(isinstance(id, str) for id in ids)
        ):
            raise GalleryError(f"ids: found {ids!r:.80}; give a list of texts")
        wanted = ids if isinstance(ids, pa.Array) else texts(ids).cast(pa.string())
        distinct = wanted.unique()
        found = np.full(len(distinct), -1, np.int64)
        for segment, start in self._placed():
            numbers, positions = segment.find(distinct)
            found[numbers] = positions + start
        return found[filled(pc.index_in(wanted, value_set=distinct))]

    def share(self, positions: np.ndarray) -> list[np.ndarray]:
        """Some positions as each segment counts them, ascending."""
        ordered = np.sort(positions)
        cuts = np.searchsorted(ordered, self._starts)
        return [
            ordered[first:last] - start
            for first, last, start in zip(cuts[:-1], cuts[1:], self._starts[:-1], strict=True)
        ]

    def _placed(self) -> Iterator[tuple[Segment, int]]:
        """Each segment, and the position at which it begins."""
        return zip(self.parts, self._starts[:-1].tolist(), strict=True)

    def _shared(self, positions: np.ndarray) -> Iterator[tuple[Segment, np.ndarray, np.ndarray]]:
        """Each segment that has some of the positions, their rows, and its own positions."""
        if len(self.parts) == 1:
            yield self.parts[0], np.arange(len(positions)), positions
            return
        numbers = np.searchsorted(self._starts, positions, side="right") - 1
        for number in np.unique(numbers):
            rows = np.flatnonzero(numbers == number)
            yield self.parts[number], rows, positions[rows] - self._starts[number]
