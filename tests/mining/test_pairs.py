"""Positive pairs of labelled, unlabelled and classed rows."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msiam.data.examples import Examples
from msiam.errors import DataError
from msiam.mining.pairs import Pairs

TOWERS = {"a": "text", "b": "text", "c": "text"}


def examples(rows, same=None):
    table = np.array(rows, np.int64)
    columns = {
        name: table[:, place] for place, name in zip(range(table.shape[1]), "abc", strict=False)
    }
    return Examples.build(columns, TOWERS, None if same is None else np.array(same, bool))


def test_each_positive_pair_once_in_the_order_of_the_table():
    found = Pairs.find(examples([[5, 1], [0, 1], [5, 1], [2, 3]], [1, 1, 1, 0]), "a", "b")
    assert found.anchors.tolist() == [5, 0] and found.positives.tolist() == [1, 1]
    assert found.groups[0] == found.groups[1]  # both go with the item 1
    turned = Pairs.find(examples([[5, 1], [0, 1]]), "b", "a")
    assert (turned.anchors.tolist(), turned.positives.tolist()) == ([1, 1], [5, 0])


def test_a_triplets_negative_is_no_positive():
    rows = examples([[0, 1, 2], [3, 4, 0]])
    assert len(Pairs.find(rows, "a", "b")) == 2
    with pytest.raises(DataError, match="none of the 2 rows pairs a 'a' with a 'c'"):
        Pairs.find(rows, "a", "c")


@given(st.lists(st.integers(0, 6), min_size=2, max_size=40), st.integers(0, 9))
def test_of_one_column_each_item_goes_with_another_of_its_class(classes, seed):
    items = np.random.default_rng(seed).permutation(len(classes))
    numbers, of = np.tile(items, 2), np.tile(np.array(classes), 2)  # each item stands there twice
    rows = Examples.build({"a": numbers}, TOWERS, classes={"a": of})
    counts = Counter(classes)
    several = [item for item, kind in zip(items, classes, strict=True) if counts[kind] > 1]
    if not several:
        with pytest.raises(DataError, match="no class has two items"):
            Pairs.find(rows, "a", "a", seed)
        return
    found = Pairs.find(rows, "a", "a", seed)
    class_of = dict(zip(items.tolist(), classes, strict=True))
    assert found.anchors.tolist() == several
    for one, other, group in zip(found.anchors, found.positives, found.groups, strict=True):
        assert one != other and class_of[one] == class_of[other] == group


def test_the_other_of_a_class_is_any_of_them():
    rows = Examples.build({"a": np.arange(4)}, TOWERS, classes={"a": np.zeros(4, int)})
    seen = {tuple(Pairs.find(rows, "a", "a", seed).positives.tolist()) for seed in range(40)}
    assert {positives[0] for positives in seen} == {1, 2, 3}
