"""Splits of mined triplets, whose negatives tie all rows together: still no item on both sides."""

from __future__ import annotations

import re
from dataclasses import replace

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


def items_of(examples, towers):
    return {(towers[c], n) for c, numbers in examples.columns.items() for n in numbers.tolist()}


def check_sides(examples, parts, towers):
    """No item is on two sides, and no row in two parts."""
    sides = [items_of(rows, towers) for rows in parts.values()]
    assert sum(map(len, sides)) == len(set().union(*sides))
    rows = np.concatenate([rows.rows for rows in parts.values()])
    assert len(set(rows.tolist())) == len(rows) <= len(examples)


@given(
    st.integers(20, 60),
    st.integers(2, 5),
    st.sampled_from([ONE, TWO]),
    st.integers(0, 100),
    st.integers(0, 30),
    st.booleans(),
)
def test_no_item_is_on_two_sides_and_what_is_left_out_is_counted(
    pairs, negatives, towers, seed, others, scored
):
    examples = triplets(pairs, negatives, towers, seed, others)
    if scored:
        examples = replace(examples, scores=np.arange(len(examples), dtype=np.float32))
    try:
        parts, note = split(examples, towers, SHARES, seed)
    except DataError:
        assume(False)
    check_sides(examples, parts, towers)
    kept = (
        len(parts["train"])
        + np.isin(
            examples.columns["anchor"],
            [n for p in SHARES for n in parts[p].columns["anchor"].tolist()],
        ).sum()
    )
    if scored:
        kept = sum(map(len, parts.values()))
    left_out = len(examples) - kept
    if "alone, since negatives" in note:
        (train,) = re.findall(r"([\d,]+) of [\d,]+ training rows have a held-out negative", note)
        held_out = re.findall(r"so were ([\d,]+) held-out rows", note)
        assert left_out == sum(int(n.replace(",", "")) for n in [train, *held_out])
        assert len(held_out) == scored
    else:
        assert left_out == 0
    again, _ = split(examples, towers, SHARES, seed)
    assert all(np.array_equal(parts[part].rows, again[part].rows) for part in parts)


@pytest.mark.parametrize("towers", [ONE, TWO])
@pytest.mark.parametrize("seed", range(3))
def test_held_out_rows_are_as_many_as_asked_and_a_training_row_goes_for_its_negative_alone(
    towers, seed
):
    """Three negatives a pair in one row: those rows train whose three are all in training."""
    columns = triplets(300, 1, towers, seed).columns
    rng = np.random.default_rng(seed)
    start = columns["positive"][0]
    for name in ("second", "third"):
        columns[name] = (columns["anchor"] + rng.integers(1, 300, 300)) % 300 + start
    towers = towers | {"second": towers["positive"], "third": towers["positive"]}
    examples = Examples.build(columns, towers)
    parts, _ = split(examples, towers, {"validation": 0.1, "test": 0.1}, seed)
    check_sides(examples, parts, towers)
    assert [len(parts[part]) for part in ("validation", "test")] == [30, 30]
    for part in ("validation", "test"):
        assert list(parts[part].columns) == list(parts[part].groups) == ["anchor", "positive"]
    held_out = set(np.concatenate([parts[p].rows for p in ("validation", "test")]).tolist())
    negatives = [columns[name] - start for name in ("negative", "second", "third")]
    whole = [
        row
        for row in range(300)
        if row not in held_out and not held_out & {int(n[row]) for n in negatives}
    ]
    assert parts["train"].rows.tolist() == whole
    assert list(parts["train"].columns) == list(columns)


def test_a_held_out_pair_counts_once_however_many_negatives_it_had():
    examples = triplets(100, 5, TWO, seed=2)
    parts, _ = split(examples, TWO, SHARES)
    for part in SHARES:
        anchors = parts[part].columns["anchor"].tolist()
        assert sorted(set(anchors)) == anchors
    assert [len(parts[part]) for part in SHARES] == [30, 20]
    counts = np.bincount(parts["train"].columns["anchor"])
    assert 1 < counts.max() <= 5


def test_parts_that_would_be_far_smaller_than_asked_are_split_by_pairs():
    """Half of the rows hang together, and the other half are pairs of five rows that do not."""
    some = triplets(40, 5, TWO, seed=0).columns
    own = np.repeat(np.arange(40, 48), 25)
    other = {"anchor": own, "positive": own, "negative": 10 + own}
    columns = {c: np.concatenate([some[c], other[c]]) for c in some}
    examples = Examples.build(columns, TWO)
    parts, note = split(examples, TWO, {"validation": 0.05, "test": 0.05})
    assert "alone, since negatives" in note
    assert all(len(parts[part]) >= 2 for part in ("validation", "test"))
    check_sides(examples, parts, TWO)


def test_scored_rows_keep_the_column_that_their_score_belongs_to():
    examples = triplets(200, 1, TWO, seed=1)
    examples = replace(examples, scores=np.arange(200, dtype=np.float32))
    parts, note = split(examples, TWO, SHARES)
    check_sides(examples, parts, TWO)
    assert "held-out rows with a negative of another part" in note
    for rows in parts.values():
        assert list(rows.columns) == list(TWO) and len(rows)
        assert rows.scores.tolist() == rows.rows.tolist()


def test_triplets_that_hang_together_by_little_are_split_as_ever():
    columns = {"anchor": np.arange(50), "positive": np.arange(50), "negative": np.arange(50, 100)}
    parts, note = split(Examples.build(columns, TWO), TWO, SHARES)
    assert sum(map(len, parts.values())) == 50
    assert all(list(rows.columns) == list(columns) for rows in parts.values())
    assert "alone, since negatives" not in note


def test_negatives_that_are_all_held_out_are_an_error_that_says_so():
    """Every negative is one item, which one pair has: where that is held out, nothing trains."""
    columns = {
        "anchor": np.arange(30), "positive": np.arange(30), "negative": np.zeros(30, np.int64),
    }  # fmt: skip
    examples = Examples.build(columns, TWO)
    said = "no row for train: each of its 15 rows has a negative that validation or test has too"
    raised = 0
    for seed in range(10):
        try:
            parts, _ = split(examples, TWO, SHARES, seed)
            check_sides(examples, parts, TWO)
            assert 0 in parts["train"].columns["anchor"]
        except DataError as error:
            raised += 1
            assert re.search(said, str(error))
    assert 0 < raised < 10


def test_pairs_that_all_hang_together_are_refused_in_words_of_rows():
    columns = {
        "anchor": np.zeros(30, int), "positive": np.arange(30), "negative": np.arange(30, 60),
    }  # fmt: skip
    with pytest.raises(DataError, match=r"validation: 30 of 30 rows hang together by items"):
        split(Examples.build(columns, TWO), TWO, SHARES)
