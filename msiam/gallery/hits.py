"""What a search found: records that are read when somebody looks at them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
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

    __slots__ = ("_batch", "_made", "_query")  # a thousand of them are made at once

    def __init__(self, batch: _Batch, query: int) -> None:
        self._batch = batch
        self._query = query
        self._made: list[Hit] | None = None

    @property
    def _hits(self) -> list[Hit]:
        if self._made is None:
            self._made = self._read()
        return self._made

    def _read(self) -> list[Hit]:
        records, scores = self._batch.records(self._query), self._batch.scores(self._query)
        return [Hit(id, score, record) for (id, record), score in zip(records, scores, strict=True)]

    def __len__(self) -> int:
        return self._batch.count(self._query)

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
    """What all queries of a search found."""

    def __init__(self, scores: np.ndarray, positions: np.ndarray, read: Read) -> None:
        self._all, self._read = (scores, positions), read

    @cached_property
    def _counts(self) -> list[int]:
        return (self._all[1] >= 0).sum(axis=1).tolist()

    @cached_property
    def _starts(self) -> list[int]:
        return [0, *accumulate(self._counts)]

    def count(self, query: int) -> int:
        return self._counts[query]

    def scores(self, query: int) -> list[float]:
        """Where nothing was found, at the end, there is no score."""
        return self._all[0][query, : self.count(query)].tolist()

    def records(self, query: int) -> list[tuple[str, dict[str, Any]]]:
        start = self._starts[query]
        return self._records[start : start + self.count(query)]

    @cached_property
    def _records(self) -> list[tuple[str, dict[str, Any]]]:
        positions = self._all[1]
        return self._read(positions[positions >= 0])


def as_hits(scores: np.ndarray, positions: np.ndarray, read: Read) -> list[Hits]:
    """Scores and positions, (q, k), as the hits of each query; where nothing was found is −1."""
    batch = _Batch(scores, positions, read)
    return [Hits(batch, query) for query in range(len(scores))]
