"""Batches: an order that depends on seed and epoch alone, however accelerate wraps it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from accelerate import skip_first_batches
from accelerate.data_loader import prepare_data_loader
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from msiam.data.batches import BatchSampler, Collator
from msiam.data.examples import Examples
from msiam.data.items import Items
from msiam.data.sources import open_table


@given(st.integers(0, 50), st.integers(2, 12), st.integers(0, 3))
def test_every_row_once_an_epoch(n, size, epoch):
    sampler = BatchSampler(n, size, seed=1)
    sampler.set_epoch(epoch)
    batches = list(sampler)
    assert len(batches) == len(sampler)
    assert all(len(batch) == size for batch in batches[:-1])
    assert sorted(row for batch in batches for row in batch) == list(range(n))


@pytest.mark.parametrize(("n", "sizes"), [(1, [1]), (9, [4, 5]), (10, [4, 4, 2]), (5, [5])])
def test_a_single_row_left_over_joins_the_batch_before(n, sizes):
    assert [len(batch) for batch in BatchSampler(n, 4)] == sizes


def test_the_order_depends_on_seed_and_epoch_alone():
    def order(seed, epoch, epochs_before=()):
        sampler = BatchSampler(100, 10, seed)
        for before in epochs_before:
            sampler.set_epoch(before)
            list(sampler)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(0, 2) == order(0, 2, epochs_before=(0, 1))
    assert order(0, 2) != order(0, 1)
    assert order(0, 2) != order(1, 2)


def loaders(n, processes, size=4):
    """The loader of each process, as transformers.Trainer has them."""
    found = []
    for process in range(processes):
        sampler = BatchSampler(n, size, seed=3)
        loader = DataLoader(sampler.rows, batch_sampler=sampler, collate_fn=list)
        found.append(prepare_data_loader(loader, num_processes=processes, process_index=process))
    return found


def epoch_of(loader, epoch, skip=0):
    """One epoch as transformers.Trainer goes through it; ``skip`` batches if it resumes there."""
    if skip:
        loader = skip_first_batches(loader, skip)
    loader.set_epoch(epoch)
    inner = getattr(loader.batch_sampler, "batch_sampler", None)
    if hasattr(inner, "set_epoch"):
        inner.set_epoch(epoch)
    return list(loader)


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("n", [32, 30])
def test_processes_share_the_epoch_out(n, processes):
    plain = BatchSampler(n, 4, seed=3)
    plain.set_epoch(5)
    expected = list(plain)
    shares = [epoch_of(loader, 5) for loader in loaders(n, processes)]
    assert len({len(share) for share in shares}) == 1
    dealt = [batch for step in zip(*shares, strict=True) for batch in step]
    assert dealt[: n // 4] == expected[: n // 4]
    assert {row for batch in dealt for row in batch} == set(range(n))


@pytest.mark.parametrize("processes", [1, 2])
def test_a_resumed_epoch_goes_on_where_it_was(processes):
    whole = [[epoch_of(loader, e) for e in range(3)] for loader in loaders(32, processes)]
    resumed = [
        [epoch_of(loader, 1, skip=3), epoch_of(loader, 2)] for loader in loaders(32, processes)
    ]
    for process in range(processes):
        assert resumed[process] == [whole[process][1][3:], whole[process][2]]


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
    lengths = [
        row[row > 0].tolist() for part in batch["batches"]["text"] for row in part["lengths"]
    ]
    assert [len(part["lengths"]) for part in batch["batches"]["text"]] == sizes
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
