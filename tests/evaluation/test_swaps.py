from __future__ import annotations

import numpy as np
import pytest

from msiam.evaluation.swaps import Synonyms, greedy, typos, words_of


def test_typos_swap_neighbours_within_words_and_leave_first_letters():
    assert typos("a cat, an été") == ["a cta, an été", "a cat, an éét"]
    assert typos("see abcd") == ["see acbd", "see abdc"]  # two e's swapped are as they were
    assert typos("on 1234") == []


def test_words_are_letters_in_lower_case():
    assert words_of(["A cat, a Dog!", "dog 12 été"]) == ["a", "cat", "dog", "été"]


@pytest.fixture
def animals():
    vectors = np.array([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8], [0.0, 1.0]])
    return Synonyms(["cat", "dog", "fox", "car"], vectors, near=2)


def test_synonyms_are_the_nearest_other_words(animals):
    assert animals.of("cat") == ["dog", "fox"]
    assert animals.of("Car") == ["fox", "dog"]
    assert animals.of("house") == []
    assert animals("a cat in a house") == ["a dog in a house", "a fox in a house"]


def count_of_b(texts, owners):
    return np.array([text.count("b") for text in texts]) - 10.0 * (np.array(owners) == 1)


def one_letter_to_b(text):
    return [text[:i] + "b" + text[i + 1 :] for i in range(len(text))]


def test_greedy_keeps_the_worst_of_each_text_and_never_goes_back():
    texts = ["aab", "aaa", "bbb"]
    before = count_of_b(texts, [0, 1, 2])
    steps = greedy(count_of_b, texts, before, one_letter_to_b, swaps=3, tries=99, seed=0)
    gains = [found.tolist() for _, found in steps]
    assert gains == [[2, -9, 3], [3, -8, 3], [3, -7, 3]]
    assert steps[-1][0] == ["bbb", "bbb", "bbb"]
    assert before.tolist() == [1, -10, 3]


def test_greedy_tries_no_more_than_it_may():
    asked = []

    def gain(texts, owners):
        asked.append(np.bincount(owners, minlength=2).tolist())
        return np.zeros(len(texts))

    greedy(gain, ["abcdef", "ab"], np.zeros(2), one_letter_to_b, swaps=2, tries=3, seed=0)
    assert asked == [[3, 2], [3, 2]]


def test_a_text_that_nothing_changes_stays():
    steps = greedy(count_of_b, ["", "x"], np.zeros(2), lambda text: [], swaps=1, tries=3, seed=0)
    assert steps[0][0] == ["", "x"] and steps[0][1].tolist() == [0, 0]
