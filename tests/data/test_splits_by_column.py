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
