from __future__ import annotations

import numpy as np
import pytest

from msiam.evaluation.calibration import Calibration
from msiam.evaluation.findings import (
    most_confident_mistakes,
    most_confident_wrong_answers,
    sample_searches,
)

VALUES = {"a": ["a0", "a1", "a2", "a3"], "b": ["b0", "b1", "b2", "b3"]}
CALIBRATION = Calibration(threshold=0.5, f1_threshold=0.5, slope=10.0, intercept=-5.0)


@pytest.fixture
def labelled(make):
    """Four pairs that score 0.9, 0.6, 0.2 and 0.8."""
    numbers = {"a": [0, 0, 0, 0], "b": [0, 1, 2, 3]}
    groups = {"a": [0, 0, 0, 0], "b": [1, 2, 0, 0]}
    scores = [[0.9], [0.6], [0.2], [0.8]]
    return make(numbers, groups, {"a": [[1.0]], "b": scores}, same=[False, False, True, True])


def test_the_surest_mistake_comes_first(labelled):
    found = most_confident_mistakes(labelled, CALIBRATION, VALUES)
    assert [mistake.items for mistake in found] == [
        {"a": "a0", "b": "b0"},  # 0.9, and different
        {"a": "a0", "b": "b2"},  # 0.2, and the same
        {"a": "a0", "b": "b1"},  # 0.6, and different
    ]
    first, second, _ = found
    assert first.row == 100
    assert first.score == pytest.approx(0.9)
    assert first.probability == pytest.approx(1 / (1 + np.exp(-4)))
    assert first.said.startswith("Said same, 98.2")
    assert first.truth == "they are different"
    assert second.said.startswith("Said different, 95.3")
    assert second.truth == "they are the same"


def test_mistakes_are_said_in_the_recipes_words(labelled):
    words = ("on topic", "off topic")
    first, second, _ = most_confident_mistakes(labelled, CALIBRATION, VALUES, words=words)
    assert first.said.startswith("Said on topic, 98.2") and first.truth == "they are off topic"
    assert second.said.startswith("Said off topic") and second.truth == "they are on topic"


def test_a_decision_that_is_the_less_likely_one_is_called_so(labelled):
    late = Calibration(threshold=0.85, f1_threshold=0.85, slope=10.0, intercept=-7.0)
    said = [mistake.said for mistake in most_confident_mistakes(labelled, late, VALUES)]
    assert said[-1].startswith("Said different, by the threshold, though only 26.9")


def test_no_more_mistakes_than_asked_for(labelled):
    assert len(most_confident_mistakes(labelled, CALIBRATION, VALUES, n=2)) == 2


def test_two_items_of_one_column_are_both_shown_and_once(make):
    vectors = [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]  # 0 and 1 are of one class, and unlike
    embedded = make({"a": range(3)}, {"a": [0, 0, 1]}, {"a": vectors}, classed=True)
    found = most_confident_mistakes(embedded, CALIBRATION, VALUES)
    items = [mistake.items for mistake in found]
    assert {frozenset(one.values()) for one in items} == {
        frozenset({"a0", "a1"}),
        frozenset({"a0", "a2"}),
    }
    assert len(items) == 2 and all(list(one) == ["a", "other a"] for one in items)


def test_no_mistake_is_an_empty_list(aligned):
    embedded = aligned(20, noise=0.01)
    values = {"a": list(range(20)), "b": list(range(20))}
    assert most_confident_mistakes(embedded, CALIBRATION, values) == []
    assert most_confident_wrong_answers(embedded, values) == []


@pytest.fixture
def searched(make):
    """Query a0 finds b1 by a wide margin, a1 finds b2 by a narrow one, a2 is right."""
    numbers = {"a": [0, 1, 2], "b": [0, 1, 2]}
    vectors = {"a": [[0.1, 0.9, 0.2], [0.0, 0.6, 0.7], [0.0, 0.3, 0.8]], "b": np.eye(3)}
    return make(numbers, numbers, vectors)


def test_the_widest_margin_comes_first(searched):
    found = most_confident_wrong_answers(searched, VALUES, n=4)
    forth = [mistake for mistake in found if "a" in mistake.items]
    assert [mistake.items for mistake in forth] == [
        {"a": "a0", "its answer": "b1", "right answer": "b0"},
        {"a": "a1", "its answer": "b2", "right answer": "b1"},
    ]
    assert forth[0].said == "Answered with another b, score 0.900"
    assert forth[0].truth == "the right one has 0.100 and rank 3"
    assert forth[0].row == 100
    assert forth[0].probability is None


def test_searches_show_the_nearest_and_mark_the_right_ones(searched):
    found = sample_searches(searched, VALUES, n=3, top=2)
    by_query = {search.query: search for search in found}
    assert len(found) == 6  # three each way
    search = by_query["a0"]
    assert (search.source, search.target, search.rank) == ("a", "b", 3)
    assert [(hit.item, hit.correct) for hit in search.hits] == [("b1", False), ("b2", False)]
    assert by_query["a2"].hits[0].correct
    assert by_query["a2"].hits[0].score == pytest.approx(0.8)


def test_a_right_item_is_shown_below_its_equals(make):
    numbers = {"a": [0, 1], "b": [0, 1]}
    embedded = make(numbers, numbers, {"a": [[1.0], [1.0]], "b": [[1.0], [1.0]]})
    for search in sample_searches(embedded, VALUES):
        assert search.rank == 2
        assert [hit.correct for hit in search.hits] == [False, True]


def test_the_query_itself_is_not_among_the_hits(make):
    embedded = make(
        {"a": [0, 1], "b": [1, 0]},
        {"a": [7, 7], "b": [7, 7]},
        {"a": np.eye(2)},
        {"a": "a", "b": "a"},
    )
    for search in sample_searches(embedded, VALUES):
        assert [hit.item == search.query for hit in search.hits] == [False]


def test_nothing_to_search_for_is_an_empty_list(make):
    numbers = {"a": [0, 1], "b": [0, 1]}
    embedded = make(numbers, numbers, {"a": np.eye(2), "b": np.eye(2)}, same=[False, False])
    assert sample_searches(embedded, VALUES) == []
    assert most_confident_wrong_answers(embedded, VALUES) == []


def test_of_classes_a_wrong_answer_says_which(make):
    vectors = [[1.0, 0.0], [0.0, 1.0], [0.9, 0.1], [-1.0, 0.5]]
    embedded = make({"a": range(4)}, {"a": [0, 0, 1, 1]}, {"a": vectors}, classed=True)
    first, *_ = most_confident_wrong_answers(embedded, VALUES, classes=["cats", "dogs"])
    assert first.items == {"a": "a2", "its answer": "a0", "right answer": "a3"}
    assert first.said == "Answered with one of class 'cats', score 0.900"
    assert first.truth == "the nearest of its own class 'dogs' has -0.850 and rank 3"
    for search in sample_searches(embedded, VALUES):
        assert search.right == "the first of its class"
