"""What a report shows beside its figures: confident mistakes, searches, decisions of many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from msiam.evaluation.calibration import Calibration
from msiam.evaluation.directions import Direction, directions, tie
from msiam.evaluation.evaluator import Decision, Embedded, percent
from msiam.evaluation.pairs import Pairs, find_pairs
from msiam.evaluation.verdict import Verdict
from msiam.evaluation.words import READ, effects_on

#: By tower, its raw items by number (``Items.values``).
Values = Mapping[str, Sequence[Any]]
BLOCK = 256  # queries at a time


@dataclass(frozen=True)
class Hit:
    """One item that a search found."""

    item: Any
    score: float
    correct: bool


@dataclass(frozen=True)
class Search:
    """A query and what was nearest to it, best first.

    Attributes:
        query: the raw item.
        hits: the nearest items.
        source, target: the columns of the query and of the hits.
        rank: where the first right item stands, from 1.
        right: what a right item is called.
        effects: where the query is a text, its words, and what each adds to its likeness with what
            is nearest.
    """

    query: Any
    hits: list[Hit]
    source: str
    target: str
    rank: int
    right: str = "the right one"
    effects: list[tuple[str, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Choice:
    """One of the classes that a query may be of.

    Attributes:
        items: its raw examples.
        score: how near the query is to it.
        said, right: whether it is what the model said; whether it is what the query is of.
    """

    items: list[Any]
    score: float
    said: bool
    right: bool


@dataclass(frozen=True)
class Grid:
    """A query and the classes it may be of: a decision as a picture."""

    query: Any
    source: str
    choices: list[Choice]

    @property
    def correct(self) -> bool:
        return any(choice.said and choice.right for choice in self.choices)


def grids(decisions: Sequence[Decision], embedded: Embedded, values: Values) -> list[Grid]:
    """What evaluators decided, with the items themselves. A tie is said wrongly."""
    found = []
    for decision in decisions:
        raw = values[embedded.towers[decision.column]]
        scores = np.array(decision.scores)
        scores[decision.right] -= tie(scores[decision.right])
        said = int(scores.argmax())
        choices = [
            Choice([raw[item] for item in items], score, place == said, place == decision.right)
            for place, (items, score) in enumerate(
                zip(decision.candidates, decision.scores, strict=True)
            )
        ]
        found.append(Grid(raw[decision.query], decision.column, choices))
    return found


def most_confident_mistakes(
    embedded: Embedded,
    calibration: Calibration,
    values: Values,
    n: int = 8,
    words: tuple[str, str] = ("same", "different"),
) -> list[Verdict]:
    """The pairs that the calibration is surest about, of those that it judges wrongly.

    ``words``: what a pair is called that belongs together, and one that does not.
    """
    found: list[tuple[float, Verdict]] = []
    for pairs in find_pairs(embedded):
        scores = pairs.scores(embedded)
        said = calibration.same(scores)
        probability = calibration.probability(scores)
        sure = np.where(said, probability, 1 - probability)
        wrong = np.flatnonzero(said != pairs.same)
        wrong = unordered(pairs, wrong[np.argsort(-sure[wrong], kind="stable")])
        for i in wrong[:n]:
            mistake = Verdict(
                pair_items(pairs, i, embedded, values),
                said=f"Said {words[0] if said[i] else words[1]}, {_how_sure(sure[i])}, at score "
                f"{scores[i]:.3f}",
                truth=f"they are {said_of_them(words[0] if pairs.same[i] else words[1])}",
                score=float(scores[i]),
                probability=float(sure[i]),
                row=int(embedded.examples.rows[pairs.examples[i]]),
            )
            found.append((-float(sure[i]), mistake))
    return [mistake for _, mistake in sorted(found, key=lambda pair: pair[0])[:n]]


def _how_sure(probability: float) -> str:
    """Below a half where the threshold, which has most decisions right, goes against the odds."""
    if probability >= 0.5:
        return f"{percent(probability)} sure"
    return f"by the threshold, though only {percent(probability)} likely"


def unordered(pairs: Pairs, places: np.ndarray) -> np.ndarray:
    """The places, without those of pairs that stand there the other way round already."""
    if pairs.columns[0] != pairs.columns[1]:
        return places
    both = np.sort(np.stack([numbers[places] for numbers in pairs.items], 1), axis=1)
    return places[np.sort(np.unique(both, axis=0, return_index=True)[1])]


def pair_items(pairs: Pairs, place: int, embedded: Embedded, values: Values) -> dict[str, Any]:
    """A heading for each of the two items, and the raw item."""
    one, other = pairs.columns
    headings = (one, other if other != one else f"other {one}")
    return {
        heading: values[embedded.towers[column]][numbers[place]]
        for heading, column, numbers in zip(headings, pairs.columns, pairs.items, strict=True)
    }


def said_of_them(word: str) -> str:
    """What is said of two items, where ``word`` is said of a pair."""
    return "the same" if word == "same" else word


def most_confident_wrong_answers(
    embedded: Embedded, values: Values, n: int = 8, classes: Sequence[str] = ()
) -> list[Verdict]:
    """The searches whose first answer is wrong by the widest margin over the best right one.

    Each direction has an equal share of them. ``classes``: by number their names, if there are any.
    """
    found = directions(embedded)
    mistakes = []
    for i, direction in enumerate(found):
        share = n // len(found) + (i < n % len(found))
        mistakes += _wrong_answers(direction, embedded, values, share, classes)
    return mistakes


def _wrong_answers(
    direction: Direction, embedded: Embedded, values: Values, n: int, classes: Sequence[str]
) -> list[Verdict]:
    count = len(direction.queries)
    margin = np.empty(count)
    for index, scores in direction.blocks(embedded, BLOCK):
        for i, q in enumerate(index):
            right = scores[i, direction.start[q] : direction.stop[q]].max()
            scores[i, direction.start[q] : direction.stop[q]] = -np.inf
            margin[q] = scores[i].max() - right
    queries, answers = (values[embedded.towers[c]] for c in (direction.query, direction.gallery))
    mistakes = []
    widest = np.argsort(-margin, kind="stable")[:n]
    for q, scores in zip(widest, direction.scores(embedded, widest), strict=True):
        if margin[q] <= 0:
            break
        wrong = int(scores.argmax())
        right, rank = direction.best(scores, q)
        items = {
            direction.query: queries[direction.queries[q]],
            "its answer": answers[direction.items[wrong]],
            "right answer": answers[direction.items[right]],
        }
        answer, best = f"another {direction.gallery}", "the right one"
        if embedded.examples.classed:
            other, own = (_class_of(direction, embedded, item, classes) for item in (wrong, right))
            answer = f"one of class {other}"
            best = f"the nearest of its own class {own}"
        mistakes.append(
            Verdict(
                items,
                said=f"Answered with {answer}, score {scores[wrong]:.3f}",
                truth=f"{best} has {scores[right]:.3f} and rank {rank:,}",
                score=float(scores[wrong]),
                row=int(embedded.examples.rows[direction.examples[q]]),
            )
        )
    return mistakes


def _class_of(direction: Direction, embedded: Embedded, place: int, classes: Sequence[str]) -> str:
    """The class of an item of the gallery, as it is called."""
    examples = embedded.examples
    row = int(np.argmax(examples.columns[direction.gallery] == direction.items[place]))
    return f"'{classes[examples.groups[direction.gallery][row]]}'"


def sample_searches(
    embedded: Embedded, values: Values, n: int = 4, top: int = 5, seed: int = 0
) -> list[Search]:
    """In each direction, ``n`` queries drawn at random and the ``top`` items nearest to each."""
    searches = []
    rng = np.random.default_rng(seed)
    for direction in directions(embedded):
        drawn = rng.choice(len(direction.queries), min(n, len(direction.queries)), replace=False)
        queries = values[embedded.towers[direction.query]]
        answers = values[embedded.towers[direction.gallery]]
        for q, scores in zip(drawn, direction.scores(embedded, drawn), strict=True):
            start, stop = direction.start[q], direction.stop[q]
            order = scores.copy()
            order[start:stop] -= tie(order[start:stop])  # a right one ranks below its equals
            nearest = np.argsort(-order, kind="stable")[: min(top, direction.candidates[q])]
            query = queries[direction.queries[q]]
            first = embedded.of(direction.gallery)[direction.items[nearest[0]]]
            hits = [
                Hit(answers[direction.items[i]], float(scores[i]), bool(start <= i < stop))
                for i in nearest
            ]
            searches.append(
                Search(
                    query,
                    hits,
                    direction.query,
                    direction.gallery,
                    rank=direction.best(scores, q)[1],
                    right="the first of its class" if embedded.examples.classed else Search.right,
                    effects=effects_on(embedded.model, direction.query, query, first, most=READ),
                )
            )
    return searches
