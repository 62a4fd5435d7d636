"""Pairs to compare, same and different, whatever the examples are."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from msiam.errors import DataError
from msiam.evaluation.bm25 import BM25
from msiam.evaluation.directions import Direction, between
from msiam.evaluation.evaluator import Embedded

DRAWN = 10_000  # pairs of one class, about as many of which are compared where there are more


@dataclass(frozen=True)
class Pairs:
    """Pairs of items from two columns, or from one.

    Attributes:
        columns: the two columns, or twice the one.
        items: for each of them, (n,) item numbers.
        examples: (n,) which example each pair is of.
        same: (n,) bool.
        kind: the name of the kind of different pairs that these are, where kinds are asked for.
    """

    columns: tuple[str, str]
    items: tuple[np.ndarray, np.ndarray]
    examples: np.ndarray
    same: np.ndarray
    kind: str = ""

    def scores(self, embedded: Embedded) -> np.ndarray:
        """(n,) float64: the similarity of each pair."""
        left, right = (embedded.of(c)[i] for c, i in zip(self.columns, self.items, strict=True))
        return np.einsum("nd,nd->n", left, right, dtype=np.float64)


def find_pairs(embedded: Embedded, seed: int = 0) -> list[Pairs]:
    """The pairs of the first two columns, and pairs that are known or taken to be different.

    Labelled pairs are taken as they are. Where every row is a positive, each anchor (first column)
    is also paired with the row's third column, if there is one and it does not belong to the
    anchor's group (triplets). Otherwise it is paired with a random item of the second column,
    never one of its own group; an anchor for which all items are of its group has no such pair.
    Where kinds of different pairs are asked for (``Embedded.negatives``), there are those of each:
    with a random item likewise, or with the one that BM25 ranks first by the anchor's words, never
    of its own group; an anchor that shares a word with none has no such pair.

    Of data with classes, rows are taken as they are where there are same and different ones. Else
    each item is paired with the others of its class and with as many of other classes: with all
    of its class as long as that makes no more than about ``DRAWN`` pairs, else with random ones,
    one at least. Where rows claim a class (``Examples.claims``), an item is paired with those that
    claim its class and are no members of it, in the place of items of other classes.

    Raises:
        DataError: no two items are of one class, or all are; there is only one column and no class;
            a kind has no pair; items that BM25 shall compare are no texts.
    """
    examples = embedded.examples
    if len(examples.columns) < 2 and not examples.classed:
        raise DataError(
            f"pairs need two columns or classes; there is only '{next(iter(examples.columns))}'"
        )
    if examples.classed and (examples.same is None or len(np.unique(examples.same)) < 2):
        return _pairs_of_classes(embedded, seed)
    anchor, positive, *others = examples.columns
    every = np.arange(len(examples))

    def make(column: str, rows: np.ndarray, partners: np.ndarray, same: np.ndarray) -> Pairs:
        items = examples.columns[anchor][rows], examples.columns[column][partners]
        return Pairs((anchor, column), items, rows, same)

    if examples.same is not None:
        return [make(positive, every, every, examples.same)]
    found = [make(positive, every, every, np.ones(len(every), dtype=bool))]
    for kind, how in embedded.negatives.items():
        if how == "bm25":
            rows, partners = _nearest_by_words(embedded, anchor, positive)
        else:
            rows, partners = _strangers(examples.groups[anchor], examples.groups[positive], seed)
        if not len(rows):
            raise DataError(
                f"data.negatives.{kind}: of {len(every)} rows none has a stranger to be paired "
                f"with by {how}; give more rows"
            )
        found.append(
            replace(make(positive, rows, partners, np.zeros(len(rows), dtype=bool)), kind=kind)
        )
    if embedded.negatives:
        return found
    for column in others[:1]:
        apart = np.flatnonzero(examples.groups[anchor] != examples.groups[column])
        if len(apart):
            return [*found, make(column, apart, apart, np.zeros(len(apart), dtype=bool))]
    rows, partners = _strangers(examples.groups[anchor], examples.groups[positive], seed)
    return [*found, make(positive, rows, partners, np.zeros(len(rows), dtype=bool))]


def _pairs_of_classes(embedded: Embedded, seed: int) -> list[Pairs]:
    """Pairs of one class, and pairs of an item and one that is not of its class."""
    first, *others = embedded.examples.columns
    direction = between(embedded, first, (others or [first])[0])
    false = Impostors(embedded, direction)
    queries = [q for q in range(len(direction.queries)) if false.count(q)]
    if not queries:
        raise DataError(
            f"pairs need two items of one class and one of another; the {len(direction.items)} "
            f"items of '{direction.gallery}' have none; give more rows"
        )
    rng = np.random.default_rng(seed)
    most = max(1, DRAWN // len(queries))
    alike, apart = [], []
    for q in queries:
        mates = np.arange(direction.start[q], direction.stop[q])
        mates = mates[mates != direction.own[q]]
        alike.append(some(mates, most, rng))
        apart.append(false.draw(q, most if false.claiming is not None else len(alike[-1]), rng))

    def make(partners: list[np.ndarray], same: bool) -> Pairs:
        which = np.repeat(queries, [len(each) for each in partners])
        items = direction.queries[which], direction.items[np.concatenate(partners)]
        return Pairs(
            (direction.query, direction.gallery),
            items,
            direction.examples[which],
            np.full(len(which), same),
        )

    return [make(alike, True), make(apart, False)]


def some(places: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    """All of the places if they are no more than ``most``, else so many at random."""
    return places if len(places) <= most else rng.choice(places, most, replace=False)


class Impostors:
    """Of each query, what is not of its class, as places in ``direction.items``.

    Those that claim its class where rows claim one, else all.
    """

    def __init__(self, embedded: Embedded, direction: Direction) -> None:
        self.direction = direction
        self.claiming = None if embedded.examples.claims is None else _claiming(embedded, direction)

    def count(self, query: int) -> int:
        if self.claiming is not None:
            return len(self.claiming[query])
        start, stop = self.direction.start[query], self.direction.stop[query]
        return len(self.direction.items) - int(stop - start)

    def draw(self, query: int, most: int, rng: np.random.Generator) -> np.ndarray:
        """All of them if they are no more than ``most``, else so many at random."""
        if self.claiming is not None:
            return some(self.claiming[query], most, rng)
        start, stop = self.direction.start[query], self.direction.stop[query]
        others = self.count(query)
        drawn = np.arange(others) if others <= most else rng.choice(others, most, replace=False)
        return drawn + (drawn >= start) * (stop - start)  # its class is one stretch, stepped over


def _claiming(embedded: Embedded, direction: Direction) -> list[np.ndarray]:
    """For each query, the places of what claims its class and is not of it."""
    examples = embedded.examples
    assert examples.claims is not None
    (column,) = examples.columns
    claimed, group = np.empty((2, 1 + int(direction.items.max())), np.int64)
    claimed[examples.columns[column]] = examples.claims
    group[examples.columns[column]] = examples.groups[column]
    claimed, group = claimed[direction.items], group[direction.items]
    false = {c: np.flatnonzero((claimed == c) & (group != c)) for c in np.unique(claimed)}
    none = np.empty(0, np.int64)
    return [false.get(group[start], none) for start in direction.start]


def _strangers(anchors: np.ndarray, others: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """For each anchor's group (n,), a random position in ``others`` (n,) of another group."""
    order = np.argsort(others, kind="stable")
    start = np.searchsorted(others[order], anchors, side="left")
    stop = np.searchsorted(others[order], anchors, side="right")
    allowed = len(others) - (stop - start)
    rows = np.flatnonzero(allowed)
    drawn = np.random.default_rng(seed).integers(allowed[rows])
    # Its own group is one stretch of the sorted positions: step over it.
    drawn += np.where(drawn >= start[rows], stop[rows] - start[rows], 0)
    return rows, order[drawn]


def _nearest_by_words(
    embedded: Embedded, anchor: str, positive: str
) -> tuple[np.ndarray, np.ndarray]:
    """Rows, and for each the row of another group that BM25 ranks first by the anchor's words."""
    groups = embedded.examples.groups
    queries, texts = _texts(embedded, anchor), _texts(embedded, positive)
    index = BM25(texts)
    partners = np.full(len(queries), -1)
    for row, query in enumerate(queries):
        scores = index.scores(query)
        scores[groups[positive] == groups[anchor][row]] = 0
        if scores.any():
            partners[row] = scores.argmax()
    rows = np.flatnonzero(partners >= 0)
    return rows, partners[rows]


def _texts(embedded: Embedded, column: str) -> list[str]:
    """The column's items, row by row.

    Raises:
        DataError: they are no texts.
    """
    values = embedded.values[embedded.towers[column]]
    texts = [values[number] for number in embedded.examples.columns[column]]
    if not all(isinstance(text, str) for text in texts):
        raise DataError(
            f"data.negatives: bm25 compares words, and column '{column}' does not hold texts; "
            "take random"
        )
    return texts


def pair_scores(embedded: Embedded, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The scores (n,) float64 and labels (n,) bool of ``find_pairs``."""
    found = find_pairs(embedded, seed)
    scores = np.concatenate([pairs.scores(embedded) for pairs in found])
    return scores, np.concatenate([pairs.same for pairs in found])
