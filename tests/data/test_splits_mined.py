"""Splits of mined triplets, whose negatives tie all rows together: still no item on both sides."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from msiam.data.examples import Examples
from msiam.data.splits import split
from msiam.errors import DataError

ONE = {"anchor": "text", "positive": "text", "negative": "text"}
TWO = {"anchor": "text", "positive": "image", "negative": "image"}
SHARES = {"validation": 0.3, "test": 0.2}


def triplets(pairs, negatives, towers, seed, others=0):
    """Each pair with so many negatives: the positives of other pairs, or items of no pair."""
    rng = np.random.default_rng(seed)
    own = np.arange(pairs)
    start = pairs if towers is ONE else 0
    anchors = np.repeat(own, negatives)
    choice = rng.integers(0, pairs + others, len(anchors))
    choice = np.where(choice == anchors, (choice + 1) % pairs, choice)
    columns = {"anchor": anchors, "positive": anchors + start, "negative": choice + start}
    return Examples.build(columns, towers)


def items_of(examples, index, towers):
    chosen = examples.select(index)
    return {(towers[c], n) for c, numbers in chosen.columns.items() for n in numbers.tolist()}


@given(
    st.integers(20, 60),
    st.integers(2, 5),
    st.sampled_from([ONE, TWO]),
    st.integers(0, 100),
    st.integers(0, 30),
)
def test_no_item_is_on_two_sides_and_what_is_left_out_is_counted(
    pairs, negatives, towers, seed, others
):
    examples = triplets(pairs, negatives, towers, seed, others)
    try:
        parts, note = split(examples, towers, SHARES, seed)
    except DataError:
        assume(False)
    sides = [items_of(examples, index, towers) for index in parts.values()]
    assert sum(map(len, sides)) == len(set().union(*sides))
    rows = np.concatenate(list(parts.values()))
    assert len(set(rows.tolist())) == len(rows)
    if "alone, since their negatives" in note:
        assert f"{len(examples) - len(rows):,} rows with a negative of another part" in note
    else:
        assert len(rows) == len(examples)
    again, _ = split(examples, towers, SHARES, seed)
    assert all(np.array_equal(parts[part], again[part]) for part in parts)


def test_a_row_stays_where_nothing_of_it_is_elsewhere():
    """Negatives of the neighbour alone, in a ring: two rows at each seam go, and no more."""
    n = 100
    columns = {"anchor": np.arange(n), "positive": np.arange(n), "negative": (np.arange(n) + 1) % n}
    examples = Examples.build(columns, TWO)
    parts, note = split(examples, TWO, {"validation": 0.2, "test": 0.2}, 0)
    pair_split, _ = split(
        Examples.build({c: columns[c] for c in ("anchor", "positive")}, TWO),
        TWO, {"validation": 0.2, "test": 0.2}, 0,
    )  # fmt: skip
    part_of = np.empty(n, int)
    for number, rows in enumerate(pair_split.values()):
        part_of[rows] = number
    whole = np.flatnonzero(part_of == part_of[columns["negative"]])
    kept = np.sort(np.concatenate(list(parts.values())))
    # A training row may keep a negative whose own row was left out of validation or test.
    assert set(whole.tolist()) <= set(kept.tolist())
    for number, rows in enumerate(parts.values()):
        assert (part_of[rows] == number).all()
    assert "left out" in note


def test_triplets_that_hang_together_by_little_are_split_as_ever():
    columns = {"anchor": np.arange(50), "positive": np.arange(50), "negative": np.arange(50, 100)}
    parts, note = split(Examples.build(columns, TWO), TWO, SHARES)
    assert sum(map(len, parts.values())) == 50
    assert "dropping none." in note and "left out" not in note


def test_negatives_that_are_all_elsewhere_are_an_error_that_says_so():
    """Every negative is one item, which one pair has: no part but that pair's keeps a row."""
    columns = {
        "anchor": np.arange(30), "positive": np.arange(30), "negative": np.zeros(30, np.int64),
    }  # fmt: skip
    with pytest.raises(
        DataError, match=r"each of its .* rows has a negative that another part has"
    ):
        split(Examples.build(columns, TWO), TWO, SHARES)
