"""Batches: each distinct item once, and where each row finds its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from msiam.data.batches import Collator
from msiam.data.examples import Examples
from msiam.data.items import Items
from msiam.data.sources import open_table


@pytest.fixture
def collator(words):
    table = open_table([
        {"left": "one", "right": "three words here"},
        {"left": "two words", "right": "one"},
        {"left": "one", "right": "two words"},
    ])  # fmt: skip
    items = Items.collect({"t": table}, ["left", "right"], "text", words)
    items.prepare(words)
    towers = {"left": "text", "right": "text"}
    numbers = {column: items.numbers["t", column] for column in towers}
    examples = Examples.build(numbers, towers, np.array([False, False, True]))
    return Collator(examples, towers, {"text": items}, {"text": words})


def test_a_batch_holds_each_distinct_item_once(collator):
    batch = collator([2, 1])
    assert batch["batches"]["text"][0]["lengths"].tolist() == [[3, 0], [3, 5]]
    assert batch["index"]["left"].tolist() == [0, 1]
    assert batch["index"]["right"].tolist() == [1, 0]
    assert batch["rows"].tolist() == [2, 1]
    assert batch["same"].tolist() == [True, False]
    left, right = batch["groups"]["left"], batch["groups"]["right"]
    assert left[0] == right[0] == left[1] == right[1]  # one pair of them is a positive
    for tensor in (*batch["index"].values(), *batch["groups"].values(), batch["rows"]):
        assert tensor.dtype == torch.int64
    assert batch["same"].dtype == torch.bool


def test_index_finds_the_item_of_each_row(collator):
    batch = collator([0, 1, 2])
    lengths = batch["batches"]["text"][0]["lengths"]
    features = collator.items["text"].features
    for column, index in batch["index"].items():
        for row, place in enumerate(index.tolist()):
            expected = features[collator.examples.columns[column][row]].tolist()
            assert lengths[place][: len(expected)].tolist() == expected


@pytest.mark.parametrize(("chunk", "sizes"), [(1, [1, 1, 1]), (2, [2, 1]), (3, [3]), (None, [3])])
def test_chunks_hold_every_item_once(collator, chunk, sizes):
    collator.chunk = chunk
    batch = collator([0, 1, 2])
    parts = batch["batches"]["text"]
    assert [len(part["lengths"]) for part in parts] == sizes
    lengths = [row[row > 0].tolist() for part in parts for row in part["lengths"]]
    features = collator.items["text"].features
    for column, index in batch["index"].items():
        numbers = collator.examples.columns[column]
        assert [lengths[n] for n in index] == [features[n].tolist() for n in numbers]


def test_a_chunk_holds_items_of_like_length(collator, monkeypatch):
    monkeypatch.setattr(type(collator.encoders["text"]), "cost", lambda self, feature: len(feature))
    collator.chunk = 2
    chunks = collator([0, 1, 2])["batches"]["text"]
    assert [part["lengths"].shape[1] for part in chunks] == [3, 1]


def test_towers_have_batches_of_their_own(words, files):
    table = open_table([{"caption": "a b", "image": {"bytes": b"\5\6", "path": "x"}}])
    towers = {"caption": "text", "image": "image"}
    items = {
        "text": Items.collect({"t": table}, ["caption"], "text", words),
        "image": Items.collect({"t": table}, ["image"], "image", files),
    }
    items["text"].prepare(words)
    items["image"].prepare(files)
    numbers = {column: items[tower].numbers["t", column] for column, tower in towers.items()}
    examples = Examples.build(numbers, towers)
    batch = Collator(examples, towers, items, {"text": words, "image": files})([0])
    assert batch["batches"]["image"][0]["lengths"].tolist() == [[5, 6]]
    assert batch["batches"]["text"][0]["lengths"].tolist() == [[1, 1]]
    assert "same" not in batch


def test_scores_are_those_of_the_rows_and_there_only_where_there_are_some(collator, words):
    rows = [{"left": f"a{n}", "right": f"b{n}"} for n in range(3)]
    towers = {"left": "text", "right": "text"}
    items = Items.collect({"table": open_table(rows)}, list(towers), "text", words)
    items.prepare(words)
    numbers = {column: items.numbers["table", column] for column in towers}
    given = np.array([0.5, 3, 4], np.float32)
    examples = Examples.build(numbers, towers, given >= 3, given)
    batch = Collator(examples, towers, {"text": items}, {"text": words})([2, 0])
    assert batch["scores"].dtype == torch.float32
    assert batch["scores"].tolist() == [4, 0.5]
    assert batch["same"].tolist() == [True, False]
    assert "scores" not in collator([0])
