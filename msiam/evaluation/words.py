"""Which words of a text match: how much less alike two items are with each word left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from msiam.towers.model import Model

MOST = 200  # words of a text that are left out in turn
READ = 60  # words of the longest text of which a report shows what each adds


def word_effects(
    text: str, similarities: Callable[[Sequence[str]], np.ndarray]
) -> list[tuple[str, float]]:
    """Each word, in its place, and s(text) − s(text without it); above 0 it makes the match.

    Needs no attention and no gradient, and so reads any encoder of texts (occlusion: Zeiler and
    Fergus 2014, Li et al. 2016). Words are what blanks part, and a word that occurs twice is left
    out a place at a time. Of a long text the first 200 are looked at; one of a single word has
    nothing to leave out, and gives an empty list.

    Args:
        similarities: n texts to their similarities (n,) to the other item.
    """
    words = text.split()
    if len(words) < 2:
        return []
    left = [" ".join(words[:i] + words[i + 1 :]) for i in range(min(len(words), MOST))]
    whole, *without = np.asarray(similarities([text, *left]), dtype=np.float64).tolist()
    return [(word, whole - one) for word, one in zip(words, without, strict=False)]


def effects_on(
    model: Model | None, column: str, item: Any, other: np.ndarray, most: int | None = None
) -> list[tuple[str, float]]:
    """The words of an item and what each adds to its similarity with a vector (D,).

    There are none without a model, of an item of a column that reads no texts, and of a text of
    more than ``most`` words.
    """
    if model is None or model.tower_of(column).encoder.modality != "text":
        return []
    if most is not None and len(item.split()) > most:
        return []
    return word_effects(item, lambda texts: model.encode({column: texts})[column] @ other)
