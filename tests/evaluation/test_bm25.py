from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msiam.evaluation.bm25 import BM25, words_of

TEXTS = ["The cat sat", "the dog", "a cat and a cat, and a bird", "", "Straße 7"]
WORDS = st.lists(st.sampled_from(["a", "b", "c", "dd"]), max_size=6).map(" ".join)


def reference(texts: list[str], query: str, k1: float = 1.2, b: float = 0.75) -> list[float]:
    """The formula, a text and a word at a time."""
    split = [text.casefold().replace(",", "").split() for text in texts]
    mean = sum(map(len, split)) / len(split)
    found = []
    for words in split:
        total = 0.0
        for word in set(query.casefold().split()):
            having = sum(word in some for some in split)
            idf = math.log(1 + (len(split) - having + 0.5) / (having + 0.5))
            often = Counter(words)[word]
            if often:
                norm = k1 * (1 - b + b * len(words) / mean)
                total += idf * often * (k1 + 1) / (often + norm)
        found.append(total)
    return found


@pytest.mark.parametrize("query", ["the cat", "CAT cat", "strasse 7", "unheard of", ""])
def test_scores_are_those_of_the_formula(query):
    assert BM25(TEXTS).scores(query) == pytest.approx(reference(TEXTS, query))


@given(st.lists(WORDS, min_size=1, max_size=8), WORDS, st.floats(0, 1), st.floats(0.1, 3))
def test_scores_of_any_texts(texts, query, b, k1):
    found = BM25(texts, k1, b).scores(query)
    assert found == pytest.approx(reference(texts, query, k1, b))
    shares = [bool(set(words_of(text)) & set(words_of(query))) for text in texts]
    assert ((found > 0) == np.array(shares)).all()
