from __future__ import annotations

import numpy as np
import pytest

from msiam.evaluation.words import MOST, word_effects

WEIGHTS = {"wheat": 0.5, "prices": 0.25, "not": -0.125}


def bag(texts):
    """A similarity that is a sum over words."""
    return np.array([sum(WEIGHTS.get(word, 0) for word in text.split()) for text in texts])


def test_a_words_effect_is_what_the_text_loses_without_it():
    found = word_effects("wheat prices  do not rise", bag)
    assert found == [
        ("wheat", pytest.approx(0.5)),
        ("prices", pytest.approx(0.25)),
        ("do", 0),
        ("not", pytest.approx(-0.125)),
        ("rise", 0),
    ]


def test_a_word_that_stands_twice_is_left_out_a_place_at_a_time():
    def any_wheat(texts):
        return np.array(["wheat" in text.split() for text in texts], float)

    assert [effect for _, effect in word_effects("wheat and wheat", any_wheat)] == [0, 0, 0]


def test_of_a_long_text_the_beginning_is_looked_at_and_of_a_word_nothing():
    assert len(word_effects("a " * (MOST + 50), bag)) == MOST
    assert word_effects("wheat", bag) == []
