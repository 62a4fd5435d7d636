"""Hard negatives from a gallery: the nearest items that are not known to belong to an anchor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import numpy as np
import pydantic

from msiam.errors import RecipeError
from msiam.registry.options import Options, explain

#: Scores held at a time: queries × how deep the search goes. Each takes about 40 bytes on the way.
CELLS = 2**20

Search = Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]]
Progress = Callable[[int], None]

#: Why a candidate is no negative, in the order in which that is asked. It counts for the first.
REASONS = (
    "held_out",
    "known",
    "duplicate",
    "skipped",
    "max_score",
    "margin",
    "relative_margin",
)


class Rules(Options):
    """Which candidates are taken as negatives.

    A candidate must meet all of them. Its rank counts from 1 among those that are not known to
    belong to the anchor, the nearest first.

    The three bounds on its score against false negatives are those of NV-Retriever (Moreira et
    al., 2024), s its score and s₊ that of the positive: s ≤ ``max_score`` (TopK-Abs),
    s ≤ s₊ − ``margin`` (TopK-MarginPos), s ≤ s₊ − ``relative_margin`` · |s₊| (TopK-PercPos).
    """

    negatives: int = pydantic.Field(5, gt=0, description="how many each pair gets")
    skip: int = pydantic.Field(0, ge=0, description="so many of the first ranks are left out")
    range: int = pydantic.Field(
        100, gt=0, validate_default=True, description="the last rank that is looked at"
    )
    max_score: float | None = pydantic.Field(None, description="the highest score of a negative")
    margin: float | None = pydantic.Field(
        None, ge=0, description="how far below the positive's its score must be"
    )
    relative_margin: float | None = pydantic.Field(
        None, ge=0, lt=1, description="the same as a share of the positive's score"
    )
    sample: Literal["top", "random"] = pydantic.Field(
        "top", description="which of those that are left: the nearest, or any"
    )
    seed: int = pydantic.Field(0, ge=0)

    @pydantic.field_validator("range")
    @classmethod
    def _wide_enough(cls, value: int, others: pydantic.ValidationInfo) -> int:
        least = others.data.get("skip", 0) + others.data.get("negatives", 0)
        if value < least:
            raise ValueError(f"skip and negatives together are {least}; it must be at least that")
        return value

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> Self:
        """Check rules that a user gave.

        Raises:
            RecipeError: an unknown rule (with the nearest), or a value that is not allowed.
        """
        try:
            return cls.model_validate(dict(given))
        except pydantic.ValidationError as error:
            raise RecipeError(explain(error, cls, "mine")) from error


@dataclass(frozen=True)
class Candidates:
    """A gallery of m items, by position. What is known of one holds for all of its content.

    Attributes:
        search: (q, dim) queries and k to the scores (q, k), descending, and positions (q, k) of
            the nearest; position −1 where there are no more. As ``Backend.search``.
        contents: (m,) int64, the number of each item's content, equal for items that are the same
            text or the same bytes.
        groups: (c,) int64, by content: the group of such items; −1: of none that is known.
        held_out: (c,) bool, by content: items that may be nobody's negative.
    """

    search: Search
    contents: np.ndarray
    groups: np.ndarray
    held_out: np.ndarray

    def __len__(self) -> int:
        return len(self.contents)


@dataclass(frozen=True)
class Queries:
    """n positive pairs whose anchors look for negatives.

    Attributes:
        vectors: (a, dim) float32, the distinct anchors' embeddings.
        anchors: (n,) which of them each pair has.
        scores: (n,) float32, the score of each pair's positive.
        groups: (n,) int64, the anchor's group.
        contents: (n, 2) int64, the contents of anchor and positive.
    """

    vectors: np.ndarray
    anchors: np.ndarray
    scores: np.ndarray
    groups: np.ndarray
    contents: np.ndarray

    def __len__(self) -> int:
        return len(self.anchors)


@dataclass(frozen=True)
class Found:
    """Negatives of n pairs, at most k each, the nearest first.

    Attributes:
        positions: (n, k) int64 in the gallery; −1 where there is none.
        scores: (n, k) float32; −inf where there is none.
        dropped: reason -> how many candidates were left out for it, of those met on the way to
            the last rank.
    """

    positions: np.ndarray
    scores: np.ndarray
    dropped: dict[str, int] = field(default_factory=lambda: dict.fromkeys(REASONS, 0))

    @property
    def there(self) -> np.ndarray:
        """(n, k) bool."""
        return self.positions >= 0


def choose(
    scores: np.ndarray,
    barred: dict[str, np.ndarray],
    positives: np.ndarray,
    rules: Rules,
    lots: np.ndarray | None = None,
) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray]:
    """Which of c candidates, the nearest first, are the negatives of each of q pairs.

    Args:
        scores: (q, c), descending.
        barred: reason -> (q, c) bool, what is no candidate at all; ``absent``, where the search
            found no more, is counted nowhere.
        positives: (q,), the score of each pair's positive.
        lots: (q, c), the smallest of which are taken; None: those of the lowest rank.

    Returns:
        (q, k) columns of the chosen, ascending, −1 where there are no more; reason -> (q, c) bool,
        what was left out for it; and (q,) whether the last rank that is looked at was reached.
    """
    free = ~np.logical_or.reduce(list(barred.values()))
    rank = free.cumsum(axis=1)
    met = rank - free < rules.range  # on the way to the last rank
    left = free & met
    dropped = {}
    taken = np.zeros_like(free)
    for reason, mask in barred.items():
        dropped[reason] = mask & met & ~taken
        taken |= mask
    bounds = {"skipped": rank <= rules.skip}
    if rules.max_score is not None:
        bounds["max_score"] = scores > np.float32(rules.max_score)
    if rules.margin is not None:
        bounds["margin"] = scores > (positives - np.float32(rules.margin))[:, None]
    if rules.relative_margin is not None:
        bound = positives - np.float32(rules.relative_margin) * np.abs(positives)
        bounds["relative_margin"] = scores > bound[:, None]
    for reason, mask in bounds.items():
        dropped[reason] = mask & left
        left &= ~mask
    return _first(left, rules.negatives, lots), dropped, rank[:, -1] >= rules.range


def _first(left: np.ndarray, k: int, lots: np.ndarray | None) -> np.ndarray:
    """(q, k): columns of the first k that are left, or of those with the smallest lots."""
    if lots is not None:
        order = np.argsort(np.where(left, lots, np.inf), axis=1, kind="stable")
        kept = np.zeros_like(left)
        np.put_along_axis(kept, order[:, :k], True, axis=1)
        left = left & kept
    chosen = np.full((len(left), k), -1)
    rows, columns = np.nonzero(left)
    place = (left.cumsum(axis=1) - 1)[rows, columns]
    chosen[rows[place < k], place[place < k]] = columns[place < k]
    return chosen


def find_negatives(
    queries: Queries, candidates: Candidates, rules: Rules, progress: Progress | None = None
) -> Found:
    """The hard negatives of each pair, searched for in blocks of bounded memory.

    Never taken are items of the anchor's group, and those that are the same text or bytes as one
    of them, as the anchor or as the positive. Where these leave fewer ranks than ``rules.range``,
    the search is done again, deeper.
    """
    shape = len(queries), rules.negatives
    found = Found(np.full(shape, -1), np.full(shape, -np.inf, np.float32))
    pending = np.arange(len(queries))
    depth = min(len(candidates), rules.range + 16)
    while len(pending):
        deeper = []
        size = max(1, CELLS // depth)
        for start in range(0, len(pending), size):
            rows = pending[start : start + size]
            done = _search(queries, candidates, rules, rows, depth, found)
            deeper.append(rows[~done])
            if progress is not None:
                progress(int(done.sum()))
        pending = np.concatenate(deeper)
        depth = min(len(candidates), 4 * depth)
    return found


def _search(
    queries: Queries,
    candidates: Candidates,
    rules: Rules,
    rows: np.ndarray,
    depth: int,
    found: Found,
) -> np.ndarray:
    """Note what is found for some pairs; (r,) bool, for which of them it is all there is."""
    anchors, which = np.unique(queries.anchors[rows], return_inverse=True)
    scores, positions = candidates.search(queries.vectors[anchors], depth)
    scores, positions = scores[which], positions[which]
    contents = candidates.contents[positions]
    same = queries.contents[rows]
    barred = {
        "absent": positions < 0,
        "held_out": candidates.held_out[contents],
        "known": candidates.groups[contents] == queries.groups[rows, None],
        "duplicate": (contents == same[:, :1]) | (contents == same[:, 1:]),
    }
    lots = None
    if rules.sample == "random":  # by pair, so that blocks of any size draw alike
        lots = np.stack([np.random.default_rng([rules.seed, r]).random(depth) for r in rows])
    chosen, dropped, reached = choose(scores, barred, queries.scores[rows], rules, lots)
    done = reached | (positions[:, -1] < 0) | (depth >= len(candidates))
    for reason in REASONS:
        if reason in dropped:
            found.dropped[reason] += int(dropped[reason][done].sum())
    there = done[:, None] & (chosen >= 0)
    place = np.where(there, chosen, 0)
    found.positions[rows] = np.where(there, np.take_along_axis(positions, place, 1), -1)
    found.scores[rows] = np.where(there, np.take_along_axis(scores, place, 1), -np.inf)
    return done
