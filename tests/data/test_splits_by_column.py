"""Splits by a column: whole values are held out, items with them, and what is too few is said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msiam.data.examples import Examples
from msiam.data.splits import without_leaks
from msiam.data.splits_by_column import split_by_column
from msiam.errors import DataError

ONE = {"image": "image"}
SHARES = {"validation": 0.1, "test": 0.25}


def rows(values, items=None):
    """Rows with one attribute; each has an item of its own unless they are given."""
    items = np.arange(len(values)) if items is None else np.asarray(items)
    built = Examples.build({"image": items}, ONE, classes={"image": np.asarray(values) // 2})
    return replace(built, attributes={"alphabet": np.asarray(values)})


@given(counts=st.lists(st.integers(1, 6), min_size=8, max_size=30), seed=st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_each_value_is_in_one_part_and_as_many_as_asked(counts, seed):
    values = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    parts, note = split_by_column(rows(values), ONE, SHARES, seed, "alphabet")
    sides = {part: set(side.attributes["alphabet"].tolist()) for part, side in parts.items()}
    assert list(sides) == ["validation", "test", "train"]
    assert sum(map(len, sides.values())) == len(set().union(*sides.values())) == len(counts)
    assert len(sides["validation"]) == max(1, round(0.1 * len(counts)))
    assert len(sides["test"]) == round(0.25 * len(counts))
    found = sorted(np.concatenate([side.rows for side in parts.values()]).tolist())
    assert found == list(range(len(values)))
    assert all((np.diff(side.rows) > 0).all() for side in parts.values())
    counted = ", ".join(f"{len(side)} for {part}" for part, side in sides.items())
    assert note.startswith(f"Split by 'alphabet' ({counted})")


def test_another_seed_holds_out_other_values():
    examples = rows(np.arange(40) // 4)
    held_out = {
        tuple(np.unique(split_by_column(examples, ONE, SHARES, seed, "alphabet")[0]["test"].rows))
        for seed in range(8)
    }
    assert len(held_out) > 5


def test_values_that_share_an_item_stay_together():
    items = np.arange(40)
    items[[3, 4]] = 3  # of values 0 and 1
    examples = rows(np.arange(40) // 4, items)
    for seed in range(20):
        parts, _ = split_by_column(examples, ONE, {"test": 0.3}, seed, "alphabet")
        sides = [set(side.columns["image"].tolist()) for side in parts.values()]
        assert not sides[0] & sides[1]
        assert len(np.unique(parts["test"].attributes["alphabet"])) == 3


@given(seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_named_values_are_held_out_and_others_are_drawn_beside(seed):
    examples = rows(np.arange(40) // 4)
    held = {"validation": 0.3, "test": np.array([7, 2])}
    parts, note = split_by_column(examples, ONE, held, seed, "alphabet")
    sides = {part: set(side.attributes["alphabet"].tolist()) for part, side in parts.items()}
    assert sides["test"] == {2, 7}
    assert len(sides["validation"]) == 3 and not sides["validation"] & sides["test"]
    assert sides["train"] == set(range(10)) - sides["validation"] - sides["test"]
    assert note.startswith("Split by 'alphabet' (3 for validation, 2 for test, 5 for train)")


def test_named_values_that_share_an_item_go_together_or_are_refused():
    items = np.arange(12)
    items[[3, 4]] = 3  # of values 0 and 1
    examples = rows(np.arange(12) // 4, items)
    parts, _ = split_by_column(examples, ONE, {"test": np.array([0, 1])}, 0, "alphabet")
    assert parts["train"].attributes["alphabet"].tolist() == [2] * 4
    with pytest.raises(DataError, match="1 values of 'alphabet' hang together by items with val"):
        split_by_column(examples, ONE, {"test": np.array([0])}, 0, "alphabet")


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ({"validation": [1], "test": [0, 1]}, "data.split.test: names a value of 'alphabet' that"),
        ({"validation": [1, 9]}, "data.split.validation: 1 of the values of 'alphabet' that it n"),
        ({"validation": [0, 1], "test": [2, 3]}, "for 2 for validation, 2 for test of 4 values"),
    ],
)
def test_values_that_cannot_be_held_out_are_refused(held, said):
    held = {part: np.array(numbers) for part, numbers in held.items()}
    with pytest.raises(DataError, match=said):
        split_by_column(rows(np.arange(16) // 4), ONE, held, 0, "alphabet")


def test_what_leaves_a_part_without_values_is_refused():
    with pytest.raises(DataError, match="asks for 1 for test of 1 values of 'alphabet', which lea"):
        split_by_column(rows([0, 0, 0]), ONE, {"test": 0.1}, 0, "alphabet")
    tied = rows(np.arange(6), np.zeros(6, int))
    with pytest.raises(DataError, match="no value of 'alphabet' for test: 6 of 6 hang together by"):
        split_by_column(tied, ONE, {"test": 0.3}, 0, "alphabet")


def test_training_rows_of_a_held_out_value_are_dropped():
    examples = rows(np.arange(12) // 4)
    held_out = examples.select(np.array([0, 1]))
    kept, dropped = without_leaks(examples, held_out, ONE, "alphabet")
    assert dropped == 4 and kept.rows.tolist() == list(range(4, 12))
    with pytest.raises(DataError, match="shares an item or a 'alphabet' with a held-out row; give"):
        without_leaks(examples, examples, ONE, "alphabet")
