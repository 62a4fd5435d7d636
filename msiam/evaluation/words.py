"""Which words of a text match: how much less alike two items are with each word left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

MOST = 200  # words of a text that are left out in turn


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
