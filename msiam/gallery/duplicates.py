"""Near-duplicates among a gallery's records: the pairs, the groups that they make, what is kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from msiam.errors import GalleryError
from msiam.gallery.building import Progress
from msiam.gallery.gallery import Gallery

#: Records that are searched for at a time, and the neighbours that each is given at first.
ROWS = 1024
FEW = 16

#: From this cosine on two embeddings are equal but for rounding.
EQUAL = 1 - 1e-6

#: A record with more near-duplicates than this, equal ones apart, shows that the threshold is low.
MOST = 10_000

#: Results of a search that are in memory at once.
CELLS = 1 << 22


@dataclass(frozen=True)
class Pairs:
    """Pairs of records, in order.

    Attributes:
        left: (p,) int64, positions.
        right: (p,) int64, that of the other one of each, which is greater.
        scores: (p,) float32, their cosines.
    """

    left: np.ndarray
    right: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.left)

    @classmethod
    def none(cls) -> Pairs:
        return cls(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))

    @classmethod
    def all(cls, several: Iterable[Pairs]) -> Pairs:
        """The pairs of several, in order."""
        parts = [cls.none(), *several]
        joined = cls(
            np.concatenate([pairs.left for pairs in parts]),
            np.concatenate([pairs.right for pairs in parts]),
            np.concatenate([pairs.scores for pairs in parts]),
        )
        return joined.where(np.lexsort((joined.right, joined.left)))

    def where(self, which: np.ndarray) -> Pairs:
        """Some of them, by a mask or by their numbers."""
        return Pairs(self.left[which], self.right[which], self.scores[which])


class Groups:
    """Which of n records belong together, by pairs that do (union-find).

    The root of a group is its first record.
    """

    def __init__(self, count: int) -> None:
        self._parents = np.arange(count)

    def join(self, pairs: Pairs) -> None:
        """Join the two groups of each pair."""
        for a, b in zip(pairs.left.tolist(), pairs.right.tolist(), strict=True):
            one, other = self._root(a), self._root(b)
            self._parents[max(one, other)] = min(one, other)

    def _root(self, position: int) -> int:
        parents = self._parents
        while (parent := parents[position]) != position:
            parents[position] = parents[parent]
            position = parent
        return position

    def roots(self) -> np.ndarray:
        """(n,) int64: by record the first one of its group."""
        while not np.array_equal(further := self._parents[self._parents], self._parents):
            self._parents = further
        return self._parents


@dataclass(frozen=True)
class Duplicates:
    """What ``find_duplicates`` found.

    Attributes:
        pairs: the pairs of near-duplicates.
        kept: (n,) int64: by position that of the record to keep instead, which is the first of the
            group; its own where it is kept.
    """

    pairs: Pairs
    kept: np.ndarray

    @property
    def removable(self) -> np.ndarray:
        """The positions of the records that are a near-duplicate of one that is kept, ascending."""
        return np.flatnonzero(self.kept != np.arange(len(self.kept)))

    def groups(self) -> list[np.ndarray]:
        """The positions of each group of two and more, ascending; groups in the order of these."""
        order = np.argsort(self.kept, kind="stable")
        starts = np.flatnonzero(np.diff(self.kept[order])) + 1
        return [group for group in np.split(order, starts) if len(group) > 1]


def check_threshold(threshold: float) -> None:
    """Raise unless it is a cosine that pairs may reach or not.

    Raises:
        GalleryError: it is -1 or less, or above 1.
    """
    if not -1 < threshold <= 1:
        raise GalleryError(
            f"threshold: found {threshold}; a cosine above -1, and 1 at most, is right"
        )


def find_duplicates(
    gallery: Gallery, threshold: float, progress: Progress | None = None
) -> Duplicates:
    """All near-duplicates of a gallery, in memory: 20 bytes a pair. See ``near_pairs``.

    Two records that are near one another are of one group, and so are those that a chain of such
    pairs joins.
    """
    groups = Groups(len(gallery))
    found = [Pairs.none()]
    for pairs in near_pairs(gallery, threshold, progress):
        groups.join(pairs)
        found.append(pairs)
    return Duplicates(Pairs.all(found), groups.roots())


def near_pairs(
    gallery: Gallery, threshold: float, progress: Progress | None = None
) -> Iterator[Pairs]:
    """The pairs of records whose cosine is at least ``threshold``, a block of records at a time.

    A record whose embedding equals that of an earlier one is in a pair with that one, and is not
    searched for: what is near it is near the other as well. So a thousand empty descriptions make
    a thousand pairs, not half a million.

    The gallery's index finds the pairs, and the raw vectors are what their cosines are computed of.
    Of an exact index (``Flat``) they are all that there are, and its time grows with the square of
    the number of records. A byte a record and a block of results are in memory beside the index.

    Args:
        threshold: the lowest cosine, above -1; 1 asks for equal embeddings.
        progress: called with the number of records that are done since the last time.

    Raises:
        GalleryError: another threshold, or one so low that a record has more than 10,000
            near-duplicates; vectors whose length is not 1.
    """
    check_threshold(threshold)
    threshold = min(threshold, EQUAL)
    equal = np.zeros(len(gallery), bool)
    for start in range(0, len(gallery), ROWS):
        block = np.arange(start, min(start + ROWS, len(gallery)))
        positions = block[~equal[block]]
        vectors = gallery.vectors(positions)
        _check_lengths(gallery, positions, vectors)
        within = _equal_within(positions, vectors)
        equal[within.right] = True
        rest = ~equal[positions]
        near = Pairs.all(_around(gallery, positions[rest], vectors[rest], threshold))
        copies = near.where((near.scores >= EQUAL) & ~equal[near.right])
        copies = copies.where(np.unique(copies.right, return_index=True)[1])  # each of the first
        equal[copies.right] = True
        others = near.where((near.scores < EQUAL) & ~equal[near.right])
        yield Pairs.all([within, copies, others])
        if progress is not None:
            progress(len(block))


def _check_lengths(gallery: Gallery, positions: np.ndarray, vectors: np.ndarray) -> None:
    lengths = np.linalg.norm(vectors, axis=1)
    wrong = np.flatnonzero(np.abs(lengths - 1) > 1e-3)
    if len(wrong):
        ((id, _),) = gallery.records(positions[wrong[:1]])
        raise GalleryError(
            f"{gallery.folder}: the vector of record '{id}' has length {lengths[wrong[0]]:.3f}; "
            "duplicates are found among vectors of length 1, by their cosines: train the tower "
            "with normalize: true"
        )


def _equal_within(positions: np.ndarray, vectors: np.ndarray) -> Pairs:
    """Of a block, each record that equals an earlier one, with the first such."""
    cosines = vectors @ vectors.T
    alike = np.triu(cosines >= EQUAL, 1)
    left: list[int] = []
    right: list[int] = []
    for number in np.flatnonzero(alike.any(axis=0)):
        earlier = np.setdiff1d(np.flatnonzero(alike[:, number]), right)
        if len(earlier):
            left.append(int(earlier[0]))
            right.append(int(number))
    one, other = np.array(left, np.int64), np.array(right, np.int64)
    return Pairs(positions[one], positions[other], cosines[one, other])


def _around(
    gallery: Gallery, positions: np.ndarray, vectors: np.ndarray, threshold: float
) -> Iterator[Pairs]:
    """Records with all that are near them and come after them.

    Those of which the last neighbour is near too are asked for four times as many.
    """
    low = threshold - 1e-6  # an index rounds otherwise than the product here
    asked, k = np.arange(len(positions)), min(FEW, len(gallery))
    while len(asked):
        rows = max(1, CELLS // k)
        more = []
        for start in range(0, len(asked), rows):
            some = asked[start : start + rows]
            scores, places = gallery.nearest(vectors[some], k)
            hits = scores >= low
            _check_crowd(gallery, positions[some], hits & (scores < EQUAL), threshold)
            open_ended = hits[:, -1] & (k < len(gallery))
            hits &= ~open_ended[:, None] & (places > positions[some][:, None])
            row, column = np.nonzero(hits)
            yield from _scored(
                gallery, positions[some], vectors[some], row, places[row, column], threshold
            )
            more.append(some[open_ended])
        asked, k = np.concatenate(more), min(4 * k, len(gallery))


def _check_crowd(
    gallery: Gallery, positions: np.ndarray, near: np.ndarray, threshold: float
) -> None:
    crowded = np.flatnonzero(near.sum(axis=1) > MOST)
    if len(crowded):
        ((id, _),) = gallery.records(positions[crowded[:1]])
        raise GalleryError(
            f"{gallery.folder}: record '{id}' has more than {MOST:,} near-duplicates at the "
            f"threshold {threshold:.4f}; raise it"
        )


def _scored(
    gallery: Gallery,
    positions: np.ndarray,
    vectors: np.ndarray,
    rows: np.ndarray,
    places: np.ndarray,
    threshold: float,
) -> Iterator[Pairs]:
    """The pairs of some rows with records at these places, as far as their cosine reaches."""
    step = max(1, CELLS // vectors.shape[1])
    for start in range(0, len(rows), step):
        row, place = rows[start : start + step], places[start : start + step]
        distinct, back = np.unique(place, return_inverse=True)
        cosines = np.einsum("nd,nd->n", vectors[row], gallery.vectors(distinct)[back])
        yield Pairs(positions[row], place, cosines).where(cosines >= threshold)
