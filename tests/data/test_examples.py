"""Examples: groups by positive pairs, against a plain union-find; labels in every spelling."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msiam.data.examples import Examples, components, labels, positive_groups, scores
from msiam.data.sources import open_table
from msiam.errors import DataError

SIAMESE = {"left": "text", "right": "text"}
PSEUDO = {"left": "text", "right": "image"}
pairs = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12), st.booleans()), max_size=30)


def columns_of(rows):
    table = np.array(rows, np.int64).reshape(-1, 3)
    return {"left": table[:, 0], "right": table[:, 1]}, table[:, 2].astype(bool)


class UnionFind(dict):
    def find(self, node):
        while self.setdefault(node, node) != node:
            node = self[node]
        return node

    def union(self, a, b):
        self[self.find(a)] = self.find(b)


@given(pairs, st.sampled_from([SIAMESE, PSEUDO]))
def test_groups_are_what_union_find_says(rows, towers):
    columns, same = columns_of(rows)
    groups = positive_groups(columns, towers, same)
    plain = UnionFind()
    nodes = [((towers["left"], a), (towers["right"], b)) for a, b, _ in rows]
    for (a, b), positive in zip(nodes, same, strict=True):
        if positive:
            plain.union(a, b)
    roots = [plain.find(node) for pair in nodes for node in pair]
    found = np.stack([groups["left"], groups["right"]], axis=1).ravel()
    for one, root in zip(found, roots, strict=True):
        assert [other == one for other in found] == [other == root for other in roots]


@given(st.integers(1, 60), st.randoms(use_true_random=False))
def test_a_path_in_any_order_is_one_component(count, random):
    nodes = list(range(count))
    random.shuffle(nodes)
    path = np.array(nodes)
    assert not components([(path[:-1], path[1:])], count).any()


def test_a_million_edges():
    generator = np.random.default_rng(0)
    edges = generator.integers(0, 1_000_000, (2, 1_000_000))
    label = components([(edges[0], edges[1])], 1_000_000)
    assert (label[edges[0]] == label[edges[1]]).all()
    assert (label[label] == label).all()


def test_a_negative_pair_ties_nothing_together_and_a_repeated_item_keeps_its_group():
    columns = {"left": np.array([0, 0, 3]), "right": np.array([1, 2, 1])}
    groups = positive_groups(columns, SIAMESE, np.array([True, False, False]))
    assert groups["left"][0] == groups["left"][1] == groups["right"][0] == groups["right"][2]
    assert len({groups["left"][0], groups["right"][1], groups["left"][2]}) == 3


def test_rows_with_a_rejected_item_are_left_out():
    columns = {"left": np.array([0, -1, 2]), "right": np.array([3, 4, 5])}
    examples = Examples.build(columns, SIAMESE, np.array([True, True, False]))
    assert examples.rows.tolist() == [0, 2]
    assert examples.columns["right"].tolist() == [3, 5]
    assert examples.same.tolist() == [True, False]


def test_select_by_position_and_by_mask():
    examples = Examples.build({"left": np.arange(4), "right": np.arange(4, 8)}, SIAMESE)
    for index in (np.array([2, 0]), np.array([True, False, True, False])):
        chosen = examples.select(index)
        assert len(chosen) == 2
        assert set(chosen.rows.tolist()) == {0, 2}
        assert chosen.columns["left"].tolist() == chosen.rows.tolist()
        assert chosen.same is None


def test_pairs_without_negatives_and_each_once():
    columns = {
        "a": np.array([3, 3, 3, 1]),
        "b": np.array([5, 5, 5, 2]),
        "c": np.array([7, 8, 9, 7]),
    }
    towers = {"a": "x", "b": "y", "c": "y"}
    pairs = Examples.build(columns, towers).pairs()
    assert list(pairs.columns) == list(pairs.groups) == ["a", "b"] and len(pairs) == 4
    once = pairs.without_repeats()
    assert once.rows.tolist() == [0, 3] and once.columns["b"].tolist() == [5, 2]
    labelled = Examples.build(columns, towers, np.array([True, True, False, True])).pairs()
    assert labelled.without_repeats().rows.tolist() == [0, 2, 3]
    assert pairs.distinct_items(["b", "c"]).tolist() == [2, 5]
    assert pairs.distinct_items(["c"]).tolist() == []


def test_joined_tables_find_their_groups_anew():
    first = Examples.build(
        {"left": np.array([0]), "right": np.array([1])}, SIAMESE, np.array([False])
    )
    second = Examples.build({"left": np.array([0]), "right": np.array([1])}, SIAMESE)
    assert first.groups["left"][0] != first.groups["right"][0]
    both = Examples.join([first, second], SIAMESE)
    assert both.same.tolist() == [False, True]
    assert len(set(both.groups["left"]) | set(both.groups["right"])) == 1
    assert Examples.join([second, second], SIAMESE).same is None


@pytest.mark.parametrize(
    ("values", "same", "expected"),
    [
        ([1, 0, 1], 1, [True, False, True]),
        (["1", "0"], 1, [True, False]),
        ([1.0, 0.0], "1", [True, False]),
        ([True, False], 1, [True, False]),
        (["true", "False"], True, [True, False]),
        (["yes", "no"], True, [True, False]),
        (["duplicate", "other"], "duplicate", [True, False]),
        ([1, 0], 0, [False, True]),
        ([1234567, 1234568], 1234568, [False, True]),
        ([0.5, 0.25], 0.5, [True, False]),
        ([1, 1], 1, [True, True]),
    ],
)
def test_labels_in_every_spelling(values, same, expected):
    table = open_table([{"label": value} for value in values])
    assert labels(table, "label", same).tolist() == expected


@pytest.mark.parametrize(
    ("values", "same", "message"),
    [
        (
            [1, 0, 2, 0],
            1,
            r"row 2 \(from 0\) has the label 2, .* 1 \(same\) nor 0 \(not the same\)$",
        ),
        ([1, 0, 2, 0, 0, 3, 4], 1, r"row 2 .* the label 2, .* \(not the same\) \(so 2 more\)$"),
        ([1, 0, None], 1, r"row 2 \(from 0\) has no label; give it one or drop the row$"),
        ([1, None, 0, None], 1, r"row 1 \(from 0\) has no label \(so 1 more\); give it one"),
        (["1", "0", ""], 1, r"row 2 \(from 0\) has no label"),
        ([1.0, float("nan")], 1, r"row 1 \(from 0\) has no label"),
        ([0, 0], 1, r"no row has the label that means same, 1; found: 0"),
        (["a", "b"], "c", r"no row has the label that means same, 'c'; found: 'a', 'b'"),
        (
            ["Yes", "no", "Maybe"],
            "yes",
            r"row 2 .* 'Maybe', .* 'yes' \(same\) nor 'no' \(not the same",
        ),
        (["no", "Yes", "yes"], 2, r"no row has the label that means same, 2; found: 'Yes', 'no'"),
    ],
)
def test_labels_that_are_neither(values, same, message):
    table = open_table([{"label": value} for value in values])
    with pytest.raises(DataError, match=f"the given list: column 'label': {message}"):
        labels(table, "label", same)


def test_a_label_column_that_is_not_there():
    with pytest.raises(DataError, match="did you mean 'label'"):
        labels(open_table([{"label": 1}]), "lable", 1)


def test_the_groups_of_classes_are_the_classes():
    columns = {"left": np.array([0, 1, -1, 0])}
    examples = Examples.build(columns, SIAMESE, classes={"left": np.array([7, 3, 3, 7])})
    assert examples.classed and examples.same is None
    assert examples.groups["left"].tolist() == [7, 3, 7]
    assert examples.distinct_groups().tolist() == [3, 7]
    chosen = examples.select(np.array([1]))
    assert chosen.classed and chosen.groups["left"].tolist() == [3]


def test_a_row_of_two_classes_is_positive_where_they_are_equal():
    columns = {"left": np.array([0, 1, 2]), "right": np.array([0, -1, 1])}
    classes = {"left": np.array([5, 5, 6]), "right": np.array([5, 6, 5])}
    examples = Examples.build(columns, PSEUDO, classes=classes)
    assert examples.same.tolist() == [True, False]
    assert {c: g.tolist() for c, g in examples.groups.items()} == {"left": [5, 6], "right": [5, 5]}


def test_joined_classes_stay_as_they_are():
    first = Examples.build({"left": np.array([0])}, SIAMESE, classes={"left": np.array([4])})
    second = Examples.build({"left": np.array([1])}, SIAMESE, classes={"left": np.array([2])})
    both = Examples.join([first, second], SIAMESE)
    assert both.classed and both.groups["left"].tolist() == [4, 2]


def test_scores_go_with_their_rows():
    columns = {"left": np.array([0, -1, 2]), "right": np.array([3, 4, 5])}
    given = np.array([0.5, 1, 4], np.float32)
    examples = Examples.build(columns, SIAMESE, given >= 3, given)
    assert examples.scores.tolist() == [0.5, 4]
    assert examples.same.tolist() == [False, True]
    assert examples.select(np.array([1])).scores.tolist() == [4]
    assert Examples.join([examples, examples], SIAMESE).scores.tolist() == [0.5, 4, 0.5, 4]


@pytest.mark.parametrize("values", [[1, 2.5], ["1", " 2.5"], [True, 2.5]])
def test_a_score_is_a_number_however_it_is_written(values):
    if isinstance(values[0], bool):
        values = [True, False]
    found = scores(open_table([{"score": value} for value in values]), "score")
    assert found.dtype == np.float32
    assert found.tolist() == [float(value) for value in values]


@pytest.mark.parametrize("value", [None, "", "high", "nan", "inf"])
def test_what_is_no_score_is_named_with_its_row(value):
    table = open_table([{"score": "1"}, {"score": value}])
    with pytest.raises(DataError) as raised:
        scores(table, "score")
    assert str(raised.value) == (
        f"the given list: column 'score': row 1 (from 0) has the score {value!r}; a score is a "
        "number: mend or drop the row"
    )
