"""Splits: never an item on both sides, every row in one part, the same seed the same split."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from msiam.data.examples import Examples
from msiam.data.splits import require_classes, split, without_leaks
from msiam.errors import DataError

SIAMESE = {"left": "text", "right": "text"}
PSEUDO = {"left": "text", "right": "image"}
SHARES = {"validation": 0.2, "test": 0.2}
towers_of = st.sampled_from([SIAMESE, PSEUDO])
pairs = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=1, max_size=40)


def examples_of(rows, towers=SIAMESE, same=None):
    table = np.array(rows, np.int64).reshape(-1, 2)
    return Examples.build({"left": table[:, 0], "right": table[:, 1]}, towers, same)


def positions(examples, *arguments, **options):
    """``split``, by the positions of each part's rows."""
    parts, note = split(examples, *arguments, **options)
    return {part: rows.rows for part, rows in parts.items()}, note


def items_of(examples, towers):
    return {(towers[c], n) for c, numbers in examples.columns.items() for n in numbers.tolist()}


@given(pairs, towers_of, st.integers(0, 5))
def test_no_item_is_on_two_sides_and_every_row_is_in_one_part(rows, towers, seed):
    examples = examples_of(rows, towers, np.arange(len(rows)) % 2 == 0)
    try:
        parts, _ = positions(examples, towers, SHARES, seed)
    except DataError:
        assume(False)
    assert set(parts) == {"train", "validation", "test"}
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(len(rows)))
    sides = [items_of(examples.select(index), towers) for index in parts.values()]
    assert sum(map(len, sides)) == len(set().union(*sides))
    again, _ = positions(examples, towers, SHARES, seed)
    assert all(np.array_equal(parts[part], again[part]) for part in parts)


@given(pairs, pairs, towers_of)
def test_training_rows_that_touch_a_held_out_item_are_dropped_and_counted(rows, others, towers):
    train, held_out = examples_of(rows, towers), examples_of(others, towers)
    theirs = items_of(held_out, towers)
    clean = [
        row
        for row in range(len(train))
        if not items_of(train.select(np.array([row])), towers) & theirs
    ]
    if not clean:
        with pytest.raises(DataError, match="shares an item with a held-out row"):
            without_leaks(train, held_out, towers)
        return
    kept, dropped = without_leaks(train, held_out, towers)
    assert kept.rows.tolist() == clean
    assert dropped == len(rows) - len(clean)


def test_parts_have_the_shares_asked_for_and_another_seed_gives_another_split():
    examples = examples_of([(2 * n, 2 * n + 1) for n in range(1000)])
    parts, note = positions(examples, SIAMESE, {"validation": 0.05, "test": 0.1}, seed=1)
    assert {part: len(index) for part, index in parts.items()} == {
        "validation": 50,
        "test": 100,
        "train": 850,
    }
    assert "1,000 connected components" in note
    assert "this took moving 0 rows. " in note
    other, _ = positions(examples, SIAMESE, {"validation": 0.05, "test": 0.1}, seed=2)
    assert not np.array_equal(parts["test"], other["test"])


def test_the_note_counts_what_a_plain_split_would_have_leaked():
    rows = [(n, 1000 + n) for n in range(100)] * 2  # each pair twice
    parts, note = positions(examples_of(rows), SIAMESE, {"test": 0.5}, seed=0)
    assert len(parts["test"]) == 100
    moved, leaking = map(int, re.findall(r"moving (\d+) rows\. .* split, (\d+) held-out", note)[0])
    assert 0 < moved < 150
    # Of two twins in 200 places, the other is in training with probability 100 / 199.
    assert 30 <= leaking <= 70
    assert "\n" not in note


def test_a_large_component_is_not_favoured_by_its_size():
    rows = [(0, n) for n in range(1, 11)]  # ten rows that hang together, and ninety that do not
    rows += [(1000 + 2 * n, 1001 + 2 * n) for n in range(90)]
    examples = examples_of(rows)
    held_out = [
        0 in positions(examples, SIAMESE, {"test": 0.3}, seed)[0]["test"] for seed in range(200)
    ]
    assert 0.1 < np.mean(held_out) < 0.4


def test_a_component_larger_than_a_part_goes_to_training():
    rows = [(0, n) for n in range(1, 61)] + [(1000 + 2 * n, 1001 + 2 * n) for n in range(40)]
    parts, note = positions(examples_of(rows), SIAMESE, SHARES, seed=0)
    assert set(range(60)) <= set(parts["train"].tolist())
    assert [len(parts[part]) for part in SHARES] == [20, 20]
    assert "the largest has 60 of 100 rows" in note


def test_columns_of_two_towers_have_numbers_of_their_own():
    rows = [(n, n) for n in range(10)]
    assert "10 connected components" in positions(examples_of(rows), PSEUDO, SHARES)[1]
    rows = [(n, n + 1) for n in range(10)]
    assert "10 connected components" in positions(examples_of(rows, PSEUDO), PSEUDO, SHARES)[1]
    with pytest.raises(DataError, match="10 of 10 rows hang together"):
        positions(examples_of(rows), SIAMESE, SHARES)


def test_a_part_without_a_share_stays_empty_and_few_rows_still_give_one_each():
    examples = examples_of([(2 * n, 2 * n + 1) for n in range(4)])
    parts, _ = positions(examples, SIAMESE, {"validation": 0.1, "test": 0})
    assert [len(parts[part]) for part in ("validation", "test", "train")] == [1, 0, 3]
    with pytest.raises(DataError, match="asks for 1 for validation, 1 for test of 2 rows"):
        positions(examples.select(np.array([0, 1])), SIAMESE, SHARES)
    with pytest.raises(DataError, match=r"data\.table: none of its rows can be read"):
        positions(examples.select(np.array([], int)), SIAMESE, SHARES)


def test_no_training_rows_and_no_held_out_rows_leak_nothing():
    some, none = examples_of([(0, 1)]), examples_of([])
    assert without_leaks(none, some, SIAMESE)[1] == 0
    kept, dropped = without_leaks(some, none, SIAMESE)
    assert (len(kept), dropped) == (1, 0)


def classed(sizes, repeats=1):
    """One column: classes of so many items, each item ``repeats`` times, in mixed order."""
    classes = np.repeat(np.arange(len(sizes)), sizes)
    order = np.random.default_rng(99).permutation(np.tile(np.arange(len(classes)), repeats))
    return Examples.build({"left": order}, SIAMESE, classes={"left": classes[order]})


@given(st.lists(st.integers(1, 20), min_size=6, max_size=30), st.integers(0, 5))
def test_by_class_no_class_is_on_two_sides_and_each_part_has_two(sizes, seed):
    assume(sum(size > 1 for size in sizes) >= 6)
    examples = classed(sizes, repeats=2)
    parts, note = positions(examples, SIAMESE, {"validation": 0.1, "test": 0.1}, seed, by="class")
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(len(examples)))
    sides = [set(examples.select(index).groups["left"].tolist()) for index in parts.values()]
    assert sum(map(len, sides)) == len(set().union(*sides)) == len(sizes)
    for part, index in parts.items():
        require_classes(part, examples.select(index), "class")
    counts = [int(n) for n in re.findall(r"(\d+) for \w+", note)]
    assert counts == [len(side) for side in sides]
    again, _ = positions(examples, SIAMESE, {"validation": 0.1, "test": 0.1}, seed, by="class")
    assert all(np.array_equal(parts[part], again[part]) for part in parts)


def test_many_classes_are_held_out_as_asked():
    parts, note = positions(classed([10] * 100), SIAMESE, SHARES, seed=3, by="class")
    assert {part: len(index) for part, index in parts.items()} == {
        "validation": 200,
        "test": 200,
        "train": 600,
    }
    assert "Split by whole classes (20 for validation, 20 for test, 60 for train)" in note
    assert "never seen (open set)" in note and "data.split.by: item" in note


def test_which_of_a_few_equal_classes_are_held_out_depends_on_the_seed():
    examples = classed([10] * 8)
    held_out = [
        tuple(
            np.unique(
                examples.select(
                    positions(examples, SIAMESE, SHARES, seed, by="class")[0]["test"]
                ).groups["left"]
            )
        )
        for seed in range(10)
    ]
    assert len(set(held_out)) > 3


def test_by_item_classes_are_on_both_sides_and_items_are_not():
    examples = classed([30] * 4, repeats=2)
    parts, note = positions(examples, SIAMESE, SHARES, seed=0)
    sides = [items_of(examples.select(index), SIAMESE) for index in parts.values()]
    assert sum(map(len, sides)) == len(set().union(*sides)) == 120
    for index in parts.values():
        assert len(examples.select(index).distinct_groups()) == 4
    assert "Classes are on both sides (closed set)." in note


@pytest.mark.parametrize(
    ("sizes", "shares", "said"),
    [
        (
            [10] * 2,
            SHARES,
            "the split leaves no row for validation: 10 of 20 rows hang together by",
        ),
        ([10] * 3, {"test": 0.2}, "test: would have rows of one class alone, and it takes two to"),
        ([1] * 6, SHARES, "validation: would have no two items of one class; give more classes, "),
    ],
)
def test_too_few_classes(sizes, shares, said):
    examples = classed(sizes)
    with pytest.raises(DataError, match=said) as raised:
        parts, _ = positions(examples, SIAMESE, shares, by="class")
        for part, index in parts.items():
            require_classes(part, examples.select(index), "class")
    assert str(raised.value).endswith("give more classes, or set data.split.by: item")


def test_across_two_towers_something_must_belong_together():
    columns = {"left": np.arange(4), "right": np.arange(4)}
    classes = {"left": np.array([0, 0, 1, 1]), "right": np.array([2, 2, 3, 3])}
    apart = Examples.build(columns, PSEUDO, classes=classes)
    with pytest.raises(DataError, match="test: would have no two items of one class; give more r"):
        require_classes("test", apart, "item")
    require_classes(
        "test",
        Examples.build(columns, PSEUDO, classes={**classes, "left": classes["right"]}),
        "item",
    )


def test_training_rows_of_a_held_out_class_are_dropped():
    examples = classed([5, 5, 5])
    held_out = examples.select(examples.groups["left"] == 2).select(np.array([0, 1]))
    kept, dropped = without_leaks(examples, held_out, SIAMESE, by="class")
    assert (len(kept), dropped) == (10, 5)
    assert kept.distinct_groups().tolist() == [0, 1]
    assert without_leaks(examples, held_out, SIAMESE)[1] == 2
    with pytest.raises(DataError, match="each of the 15 training rows shares a class with a held-"):
        without_leaks(examples, examples, SIAMESE, by="class")


def test_what_claims_a_class_is_held_out_with_it():
    """Items 0 … 59: six a class, of which the last two only claim it."""
    item = np.arange(60)
    claims, member = item // 6, item % 6 < 4
    groups = np.where(member, claims, 100 + item)
    examples = Examples.build({"left": item}, SIAMESE, classes={"left": groups}, claims=claims)
    parts, note = split(examples, SIAMESE, {"validation": 0.2, "test": 0.3}, by="class")
    sides = {part: set(rows.claims.tolist()) for part, rows in parts.items()}
    assert sum(map(len, sides.values())) == len(set().union(*sides.values())) == 10
    assert {part: len(rows) for part, rows in parts.items()} == {
        part: 6 * len(side) for part, side in sides.items()
    }
    assert "(2 for validation, 3 for test, 5 for train)" in note
    kept, dropped = without_leaks(examples, parts["test"], SIAMESE, "class")
    assert dropped == 18 and not sides["test"] & set(kept.claims.tolist())
