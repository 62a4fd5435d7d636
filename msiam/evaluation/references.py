"""Is an item of a class? Decided by its similarity with several members of the class at once."""

from __future__ import annotations

import numpy as np

from msiam.errors import DataError
from msiam.evaluation.directions import between
from msiam.evaluation.evaluator import Embedded
from msiam.evaluation.pairs import Impostors

DRAWS = 20  # sets of reference items of a class


def reference_scores(
    embedded: Embedded, references: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores (n,) float64 of items with their class's references, whether they are members, class.

    Of each class that has more members, ``references`` are drawn, ``DRAWS`` times over. Compared
    with them are the other members, and what is none: the items that claim the class where rows
    claim one, else as many items of other classes. The score is the mean similarity with the
    references. Hafemann, Sabourin and Oliveira (2017) review this protocol for signatures.

    Raises:
        DataError: there are two columns, or no classes, or no class has so many members and
            something to tell them from.
    """
    examples = embedded.examples
    if not examples.classed or len(examples.columns) > 1:
        raise DataError("references are of one column with classes: leave `references` out")
    (column,) = examples.columns
    direction = between(embedded, column, column)
    vectors = embedded.of(column)[direction.items]
    rng = np.random.default_rng(seed)
    false = Impostors(embedded, direction)
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for number, q in enumerate(np.unique(direction.start, return_index=True)[1].tolist()):
        members = np.arange(direction.start[q], direction.stop[q])
        if len(members) <= references or not false.count(q):
            continue
        for _ in range(DRAWS):
            drawn = rng.permutation(members)
            rest = drawn[references:]
            most = false.count(q) if false.claiming is not None else len(rest)
            probes = np.concatenate([rest, false.draw(q, most, rng)])
            scores = vectors[probes] @ vectors[drawn[:references]].mean(0)
            found.append((scores, np.arange(len(probes)) < len(rest), np.full(len(probes), number)))
    if not found:
        raise DataError(
            f"{references} references of a class need one with more members, and something that "
            "is none; give more rows, or fewer references"
        )
    scores, same, classes = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return scores.astype(np.float64), same, classes
