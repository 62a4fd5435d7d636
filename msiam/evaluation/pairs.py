"""Pairs to compare, same and different, whatever the examples are."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from msiam.errors import DataError
from msiam.evaluation.bm25 import BM25
from msiam.evaluation.directions import between
from msiam.evaluation.evaluator import Embedded


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
    pairs are drawn: each item with a random other one of its class, and with one of another class.

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
    """As many pairs of one class as of two."""
    first, *others = embedded.examples.columns
    direction = between(embedded, first, (others or [first])[0])
    start, stop, own = direction.start, direction.stop, direction.own
    strangers = len(direction.items) - (stop - start)
    queries = np.flatnonzero(strangers)
    if not len(queries):
        raise DataError(
            f"pairs need two items of one class and one of another; the {len(direction.items)} "
            f"items of '{direction.gallery}' have none; give more rows"
        )
    start, stop, own, strangers = (a[queries] for a in (start, stop, own, strangers))
    rng = np.random.default_rng(seed)
    like = start + rng.integers(stop - start - (own >= 0))
    like += (own >= 0) & (like >= own)  # step over the item itself
    unlike = rng.integers(strangers)
    unlike += np.where(unlike >= start, stop - start, 0)  # and over its class

    def make(partners: np.ndarray, same: bool) -> Pairs:
        items = direction.queries[queries], direction.items[partners]
        return Pairs(
            (direction.query, direction.gallery),
            items,
            direction.examples[queries],
            np.full(len(queries), same),
        )

    return [make(like, True), make(unlike, False)]


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
