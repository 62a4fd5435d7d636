from __future__ import annotations

import numpy as np

from msiam.evaluation.directions import directions


def test_the_gallery_is_sorted_by_group_and_each_query_knows_its_stretch(make):
    embedded = make(
        {"a": [0, 1, 2], "b": [2, 0, 1]},
        {"a": [5, 3, 5], "b": [5, 3, 5]},
        {"a": np.eye(3), "b": np.eye(3)},
    )
    forth, back = directions(embedded)
    assert (forth.name, back.name) == ("a_to_b", "b_to_a")
    assert forth.items.tolist() == [0, 1, 2]  # groups 3, 5, 5
    assert forth.relevant.tolist() == [2, 1, 2]
    assert forth.candidates.tolist() == [3, 3, 3]
    assert forth.own.tolist() == [-1, -1, -1]


def test_its_own_item_scores_nothing(make):
    embedded = make(
        {"a": [0, 1], "b": [1, 2]},
        {"a": [4, 4], "b": [4, 4]},
        {"t": np.eye(3)},
        {"a": "t", "b": "t"},
    )
    forth, _ = directions(embedded)
    assert forth.items[forth.own[1]] == 1
    assert forth.scores(embedded, np.array([0, 1])).tolist() == [[0, 0], [-np.inf, 0]]
    assert forth.candidates.tolist() == [2, 1]


def test_the_best_relevant_item_ranks_below_its_equals(make):
    numbers = {"a": [0, 1, 2], "b": [0, 1, 2]}
    embedded = make(numbers, numbers, {"a": np.eye(3), "b": [[1, 0, 0], [1, 0, 0], [0, 0, 1]]})
    forth, _ = directions(embedded)
    scores = forth.scores(embedded, np.array([0, 1, 2]))
    assert [forth.best(row, q) for q, row in enumerate(scores)] == [(0, 2), (1, 3), (2, 1)]


def test_a_single_column_is_searched_with_its_own_items(make):
    embedded = make({"a": [2, 0, 1, 0]}, {"a": [5, 3, 5, 3]}, {"a": np.eye(3)}, classed=True)
    (only,) = directions(embedded)
    assert only.name == "a_to_a"
    assert only.queries.tolist() == [1, 2]  # item 0 is alone in its class
    assert only.items.tolist() == [0, 1, 2]
    assert only.relevant.tolist() == [1, 1] and only.candidates.tolist() == [2, 2]


def test_of_classes_a_row_of_two_is_a_query_all_the_same(make):
    embedded = make(
        {"a": [0, 1], "b": [0, 1]},
        {"a": [4, 5], "b": [5, 4]},
        {"a": np.eye(2), "b": np.eye(2)},
        same=[False, False],
        classed=True,
    )
    forth, back = directions(embedded)
    assert forth.queries.tolist() == back.queries.tolist() == [0, 1]
    assert forth.relevant.tolist() == [1, 1]
