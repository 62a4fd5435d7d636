"""What a split leaves beside its parts: classes that none of them has, and rows not trained on."""

from __future__ import annotations

import numpy as np

from msiam.data.examples import Examples, Towers
from msiam.data.splits import split

UNSEEN = "unseen"


def unseen_classes(
    examples: Examples, towers: Towers, share: float, seed: int
) -> tuple[dict[str, Examples], Examples, list[str]]:
    """Hold out about that share of the rows, in whole classes.

    Returns:
        The further part, if the share is above 0; the other rows; what to say of it.
    """
    if not share:
        return {}, examples, []
    parts, _ = split(examples, towers, {UNSEEN: share}, seed, "class")
    held_out = parts[UNSEEN]
    return (
        {UNSEEN: held_out},
        parts["train"],
        [
            f"{len(held_out):,} rows, all those of {len(held_out.distinct_classes()):,} classes, "
            "are measured apart: nothing of these classes is seen in training."
        ],
    )


def trained_on(examples: Examples, share: float, seed: int) -> tuple[Examples, list[str]]:
    """A share of the training rows, drawn at random and at least one, and what to say of it."""
    n = len(examples)
    kept = max(round(share * n), 1)
    if kept >= n:
        return examples, []
    drawn = np.random.default_rng(seed).permutation(n)[:kept]
    note = f"Of {n:,} rows that are left for training, {kept:,} are trained on (data.split.train)."
    return examples.select(np.sort(drawn)), [note]
