"""Attacks on a text: neighbouring letters swapped, words exchanged for their like."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

import numpy as np

#: A text to the texts that are one change away from it.
Changes = Callable[[str], list[str]]
#: Texts and the number of the pair that each is for, to what the attacker wants high, (n,).
GainOfTexts = Callable[[list[str], np.ndarray], np.ndarray]

WORD = re.compile(r"[^\W\d_]+")


def typos(text: str) -> list[str]:
    """The text with two neighbouring letters of one word swapped, the word's first left alone."""
    return [
        text[:i] + text[i + 1] + text[i] + text[i + 2 :]
        for word in WORD.finditer(text)
        for i in range(word.start() + 1, word.end() - 1)
        if text[i] != text[i + 1]
    ]


class Synonyms:
    """The text with one word exchanged for a word near it.

    What is near goes by vectors of words alone, those of the model or others, so that no
    dictionary is needed; it takes in what is merely of a kind ("cat", "dog").

    Args:
        words: distinct, in lower case.
        vectors: (n, D) of length 1.
        near: how many words are taken for synonyms of each.
    """

    def __init__(self, words: Sequence[str], vectors: np.ndarray, near: int) -> None:
        self._words, self._vectors, self._near = list(words), vectors, near
        self._numbers = {word: number for number, word in enumerate(self._words)}

    def of(self, word: str) -> list[str]:
        """The nearest other words, nearest first; none of an unknown word."""
        number = self._numbers.get(word.lower())
        if number is None:
            return []
        order = np.argsort(-(self._vectors @ self._vectors[number]), kind="stable")
        return [self._words[i] for i in order[: self._near + 1] if i != number][: self._near]

    def __call__(self, text: str) -> list[str]:
        return [
            text[: word.start()] + other + text[word.end() :]
            for word in WORD.finditer(text)
            for other in self.of(word.group())
        ]


def words_of(texts: Iterable[str]) -> list[str]:
    """The distinct words of texts, in lower case and in order."""
    return sorted({word.lower() for text in texts for word in WORD.findall(text)})


def greedy(
    gain: GainOfTexts,
    texts: Sequence[str],
    before: np.ndarray,
    changes: Changes,
    swaps: int,
    tries: int,
    seed: int,
) -> list[tuple[list[str], np.ndarray]]:
    """After each of ``swaps`` changes, the worst texts so far and their gain.

    Each time up to ``tries`` changes of each text are tried, drawn at random where there are more,
    and the worst of them is kept; where none is worse, so is the text.

    Args:
        before: (n,) the gain of the texts as they are.

    Paper: the greedy search is that of Jin et al., Is BERT Really Robust?, AAAI 2020.
    """
    rng = np.random.default_rng(seed)
    worst, found = list(texts), before.copy()
    by_swaps = []
    for _ in range(swaps):
        candidates: list[str] = []
        owners: list[int] = []
        for pair, text in enumerate(worst):
            near = changes(text)
            drawn = rng.permutation(len(near))[:tries]
            candidates += [near[i] for i in drawn]
            owners += [pair] * len(drawn)
        gains = gain(candidates, np.array(owners, dtype=np.int64))
        for text, pair, value in zip(candidates, owners, gains, strict=True):
            if value > found[pair]:
                worst[pair], found[pair] = text, value
        by_swaps.append((list(worst), found.copy()))
    return by_swaps
