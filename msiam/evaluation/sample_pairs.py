"""Held-out pairs drawn at random, with what the model says of each, for the report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from msiam.evaluation.calibration import Calibration
from msiam.evaluation.evaluator import Embedded, percent
from msiam.evaluation.findings import Values, pair_items, said_of_them, unordered
from msiam.evaluation.pairs import Pairs, find_pairs
from msiam.evaluation.verdict import Verdict
from msiam.evaluation.words import READ, effects_on


def sample_pairs(
    embedded: Embedded,
    calibration: Calibration,
    values: Values,
    n: int = 6,
    words: tuple[str, str] = ("same", "different"),
    seed: int = 0,
) -> list[Verdict]:
    """``n`` pairs, of those that belong together and of each kind that does not alike many.

    ``words``: what a pair is called that belongs together, and one that does not.
    """
    rng = np.random.default_rng(seed)
    groups = [
        (pairs, unordered(pairs, np.flatnonzero(pairs.same == same)))
        for pairs in find_pairs(embedded)
        for same in (True, False)
    ]
    groups = [(pairs, places) for pairs, places in groups if len(places)]
    found = []
    for number, (pairs, places) in enumerate(groups):
        share = n // len(groups) + (number < n % len(groups))
        for place in rng.permutation(places)[:share]:
            found.append(_judged(embedded, calibration, values, words, pairs, int(place)))
    return found


def _judged(
    embedded: Embedded,
    calibration: Calibration,
    values: Values,
    words: tuple[str, str],
    pairs: Pairs,
    place: int,
) -> Verdict:
    items = pair_items(pairs, place, embedded, values)
    vectors = [
        embedded.of(column)[numbers[place]]
        for column, numbers in zip(pairs.columns, pairs.items, strict=True)
    ]
    score = np.array([vectors[0].astype(np.float64) @ vectors[1]])
    said = bool(calibration.same(score)[0])
    probability = float(calibration.probability(score)[0])
    same = bool(pairs.same[place])
    return Verdict(
        items,
        said=f"Said {words[0] if said else words[1]}, "
        f"{percent(probability if said else 1 - probability)} sure, at score {score[0]:.3f}",
        truth=f"they are {said_of_them(words[0] if same else words[1])}",
        score=float(score[0]),
        probability=probability if said else 1 - probability,
        row=int(embedded.examples.rows[pairs.examples[place]]),
        right=said == same,
        effects=_effects(embedded, pairs.columns, items, vectors),
    )


def _effects(
    embedded: Embedded, columns: Sequence[str], items: dict[str, Any], vectors: list[np.ndarray]
) -> dict[str, list[tuple[str, float]]]:
    """Of each text the effect of its words on its likeness with the other item."""
    found = {
        heading: effects_on(embedded.model, column, item, other, most=READ)
        for (heading, item), column, other in zip(
            items.items(), columns, reversed(vectors), strict=True
        )
    }
    return {heading: effects for heading, effects in found.items() if effects}
