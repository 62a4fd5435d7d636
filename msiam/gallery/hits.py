"""What a search found: records that are read when somebody looks at them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, overload

import numpy as np

#: Gives the ids and records at n positions.
Read = Callable[[np.ndarray], list[tuple[str, dict[str, Any]]]]


@dataclass(frozen=True)
class Hit:
    """A record that a search found.

    Attributes:
        id: the record's id.
        score: the inner product with the query: for normalised embeddings the cosine.
        record: the record's other columns.
    """

    id: str
    score: float
    record: dict[str, Any]


class Hits(Sequence[Hit]):
    """The hits of one query, the best first: a list of ``Hit`` that is made when it is needed.

    Nothing of a catalogue is read before. Then those of all queries of the search are, in one go.
    """

    def __init__(self, batch: _Batch, start: int, count: int) -> None:
        self._batch, self._start, self._count = batch, start, count

    @cached_property
    def _hits(self) -> list[Hit]:
        part = slice(self._start, self._start + self._count)
        scores = self._batch.scores[part].tolist()
        return [
            Hit(id, score, record)
            for (id, record), score in zip(self._batch.records[part], scores, strict=True)
        ]

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Hit]:
        return iter(self._hits)

    @overload
    def __getitem__(self, place: int) -> Hit: ...

    @overload
    def __getitem__(self, place: slice) -> list[Hit]: ...

    def __getitem__(self, place: int | slice) -> Hit | list[Hit]:
        return self._hits[place]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, list | Hits) and self._hits == list(other)

    __hash__ = None  # type: ignore[assignment]  # equal to lists, which have none

    def __repr__(self) -> str:
        return repr(self._hits)


class _Batch:
    """What all queries of a search found, one after the other."""

    def __init__(self, scores: np.ndarray, positions: np.ndarray, read: Read) -> None:
        self.scores, self._positions, self._read = scores, positions, read

    @cached_property
    def records(self) -> list[tuple[str, dict[str, Any]]]:
        return self._read(self._positions)


def as_hits(scores: np.ndarray, positions: np.ndarray, read: Read) -> list[Hits]:
    """Scores and positions, (q, k), as the hits of each query; where nothing was found is −1."""
    found = positions >= 0
    counts = found.sum(axis=1)
    batch = _Batch(scores[found], positions[found], read)
    starts = (np.cumsum(counts) - counts).tolist()
    return [Hits(batch, *place) for place in zip(starts, counts.tolist(), strict=True)]
