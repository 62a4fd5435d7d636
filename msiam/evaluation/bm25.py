"""Okapi BM25: texts that share words with a text, of which the rare ones count most."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import chain

import numpy as np

WORD = re.compile(r"\w+")


class BM25:
    """Scores of texts against a query: Σ over its distinct words t of idf(t) · tf'(t).

    tf' = f·(k₁ + 1) / (f + k₁·(1 − b + b·length/mean length)), f being how often the text has the
    word, and idf = ln(1 + (N − n + ½) / (n + ½)), with n of N texts having it, which is never
    negative. Words are runs of letters and digits, in whatever case.

    Args:
        texts: at least one.
        k1: how soon more of a word tells no more.
        b: how much a long text's words count less, 0 to 1.

    Paper: Robertson and Zaragoza, The Probabilistic Relevance Framework: BM25 and Beyond, 2009.
    """

    def __init__(self, texts: Sequence[str], k1: float = 1.2, b: float = 0.75) -> None:
        words = [words_of(text) for text in texts]
        self._numbers = {w: i for i, w in enumerate(dict.fromkeys(chain.from_iterable(words)))}
        lengths = np.array([len(some) for some in words], np.int64)
        self.size = len(words)
        tokens = np.fromiter(
            (self._numbers[word] for word in chain.from_iterable(words)), np.int64, lengths.sum()
        )
        place = np.repeat(np.arange(self.size), lengths)
        # Sorted by word and then by text: the texts of a word are one stretch.
        pairs, often = np.unique(tokens * self.size + place, return_counts=True)
        word, self._texts = np.divmod(pairs, self.size)
        self._starts = np.searchsorted(word, np.arange(len(self._numbers) + 1))
        having = np.diff(self._starts)
        idf = np.log1p((self.size - having + 0.5) / (having + 0.5))
        norm = k1 * (1 - b + b * lengths / max(lengths.mean(), 1e-9))
        self._weights = idf[word] * often * (k1 + 1) / (often + norm[self._texts])

    def scores(self, query: str) -> np.ndarray:
        """(n,) float64: the score of each text; 0 where it shares no word with the query."""
        found = np.zeros(self.size)
        for number in _known(set(words_of(query)), self._numbers):
            stretch = slice(self._starts[number], self._starts[number + 1])
            found[self._texts[stretch]] += self._weights[stretch]
        return found


def words_of(text: str) -> list[str]:
    return WORD.findall(text.casefold())


def _known(words: Iterable[str], numbers: dict[str, int]) -> list[int]:
    """Sorted, so that sums are rounded alike in every process."""
    return sorted(numbers[word] for word in words if word in numbers)
