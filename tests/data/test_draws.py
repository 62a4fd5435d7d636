"""Draws: classes as they should be, nothing drawn of itself, all drawn alike, and all again."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msiam import Model
from msiam.data.draws import Draws, draws_of
from msiam.data.examples import Examples
from msiam.data.parts import training_parts
from msiam.errors import DataError, RecipeError
from msiam.recipe import Data

HOW = {"positive": "same", "negative": "other", "stranger": "other"}


def examples(classes: list[int]) -> Examples:
    """One row an item: items 10, 11, … of these classes."""
    groups = np.array(classes)
    items = np.arange(len(groups)) + 10
    return Examples({"image": items}, {"image": groups}, None, np.arange(len(groups)), classed=True)


@given(
    st.lists(st.integers(0, 5), min_size=3, max_size=30).filter(lambda found: len(set(found)) > 2),
    st.integers(0, 3),
)
def test_the_classes_of_a_row_are_as_asked_for(classes, seed):
    whole = examples(classes)
    positions = np.random.default_rng(seed).permutation(len(whole))
    found = Draws(whole, HOW, seed)(whole.select(positions), positions)
    of = dict(zip(whole.columns["image"].tolist(), classes, strict=True))
    assert list(found.columns) == ["image", *HOW]
    for row in range(len(found)):
        items = {column: int(numbers[row]) for column, numbers in found.columns.items()}
        for column, item in items.items():
            assert found.groups[column][row] == of[item]
        assert of[items["positive"]] == of[items["image"]]
        assert len({of[items[c]] for c in ("image", "negative", "stranger")}) == 3
        alone = classes.count(of[items["image"]]) == 1
        assert (items["positive"] == items["image"]) == alone


def test_every_item_that_may_be_drawn_is_drawn_alike():
    whole = examples([0, 1, 1, 2, 0, 2, 2, 0])
    draws = Draws(whole, HOW)
    rows = np.zeros(6000, np.int64)  # item 10, of class 0, with 14 and 17
    found = draws(whole.select(rows), rows.tolist())
    positives, counts = np.unique(found.columns["positive"], return_counts=True)
    assert positives.tolist() == [14, 17]
    assert counts.min() > 2800
    negatives, counts = np.unique(found.columns["negative"], return_counts=True)
    assert negatives.tolist() == [11, 12, 13, 15, 16]
    assert counts.min() > 1050


def test_a_batch_is_drawn_again_as_it_was_and_another_is_not():
    whole = examples([0, 1, 2] * 10)
    batch, turned = [3, 1, 4, 15, 9, 2, 6], [6, 2, 9, 15, 4, 1, 3]

    def drawn(positions, seed=0):
        found = Draws(whole, HOW, seed)(whole.select(np.array(positions)), positions)
        return np.stack(list(found.columns.values()))

    assert np.array_equal(drawn(batch), drawn(batch))
    assert not np.array_equal(drawn(batch), drawn(turned)[:, ::-1])
    assert not np.array_equal(drawn(batch), drawn(batch, seed=1))


def test_an_item_of_several_rows_is_no_positive_of_itself():
    whole = examples([0, 0, 1, 2])
    twice = whole.select(np.array([0, 0, 0, 1, 2, 3]))
    positions = list(range(6))
    found = Draws(twice, HOW)(twice, positions)
    assert found.columns["positive"].tolist() == [11, 11, 11, 10, 12, 13]


def test_too_few_classes_are_refused():
    with pytest.raises(DataError, match=r"data\.draw: a row takes items of 3 classes, .* have 2"):
        Draws(examples([0, 0, 1]), HOW)


TEXT = {"encoder": "lstm", "dim": 4, "hidden": 4, "min_count": 1}
TABLE = [{"a": f"{n} {n}", "kind": f"kind {n % 8}"} for n in range(80)]


def drawn(draw, towers, columns, **said):
    data = Data(table="-", draw=draw, split={"by": "item"}, **said)
    return data, training_parts(data, Model(towers, columns), 0, TABLE)


def test_what_is_drawn_is_of_the_training_part_alone():
    columns = dict.fromkeys(["a", *HOW], "text")
    data, parts = drawn(HOW, {"text": TEXT}, columns, classes={"a": "kind"})
    assert {tuple(part.columns) for part in parts.examples.values()} == {("a",)}
    train = parts.examples["train"]
    draws = draws_of(data, train, 0)
    assert draws is not None
    positions = np.arange(len(train))
    for _ in range(3):
        step = draws(train.select(positions), positions)
        items = np.concatenate(list(step.columns.values()))
        assert set(items) <= set(train.columns["a"])
        positions = positions[::-1]


def test_views_are_no_draws():
    towers = {"text": TEXT, "slow": {"follows": "text"}}
    data, parts = drawn({"view": "itself"}, towers, {"a": "text", "view": "slow"})
    assert draws_of(data, parts.examples["train"], 0) is None


def test_a_view_and_an_item_of_another_class_stand_in_one_row():
    how = {"view": "itself", "negative": "other"}
    towers = {"text": TEXT, "slow": {"follows": "text"}}
    columns = {"a": "text", "view": "slow", "negative": "text"}
    data, parts = drawn(how, towers, columns, classes={"a": "kind"})
    train = parts.examples["train"]
    draws = draws_of(data, train, 0)
    assert draws is not None and draws.how == {"negative": "other"}
    step = draws(train, range(len(train)))
    assert list(step.columns) == list(step.groups) == list(columns)
    a, view, negative = step.columns.values()
    assert a.tolist() == view.tolist() == train.columns["a"].tolist()
    of = dict(zip(train.columns["a"].tolist(), train.groups["a"].tolist(), strict=True))
    assert [of[item] for item in negative.tolist()] == step.groups["negative"].tolist()
    assert (step.groups["negative"] != step.groups["a"]).all()


@pytest.mark.parametrize(
    ("draw", "towers", "columns", "said"),
    [
        (
            {"view": "itself"},
            {"text": TEXT},
            {"a": "text", "view": "text"},
            r"data\.draw\.view: found 'itself', but 'a' goes through tower 'text' as well",
        ),
        (
            {"view": "itself"},
            {"text": TEXT, "other": TEXT},
            {"a": "text", "view": "other"},
            r"data\.draw\.view: goes through tower 'other', and what is drawn are items of 'a'",
        ),
    ],
)
def test_a_tower_that_cannot_take_what_is_drawn_is_refused(draw, towers, columns, said):
    with pytest.raises(RecipeError, match=said):
        drawn(draw, towers, columns)
