"""Batches of like length: what they promise, and what a row's length is."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msiam.data.examples import Examples
from msiam.data.items import Items
from msiam.data.samplers_by_length import POOL, ByLength, row_lengths
from msiam.errors import DataError


def epoch(sampler, number=0):
    sampler.set_epoch(number)
    return list(sampler)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=300), st.integers(2, 9))
def test_every_row_is_there_once_an_epoch(lengths, size):
    sampler = ByLength(np.array(lengths), size, seed=1)
    batches = epoch(sampler)
    assert len(batches) == len(sampler)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    assert sum(len(batch) != size for batch in batches) <= 1


def test_the_rows_of_a_pool_are_sorted_and_their_batches_come_in_any_order():
    lengths = np.random.default_rng(0).integers(1, 1000, POOL * 8)
    batches = epoch(ByLength(lengths, 8))
    ranges = sorted((lengths[batch].min(), lengths[batch].max()) for batch in batches)
    assert all(one[1] <= other[0] for one, other in itertools.pairwise(ranges))
    middles = [lengths[batch].mean() for batch in batches]
    assert middles != sorted(middles)
    assert any(lengths[batch].tolist() != sorted(lengths[batch]) for batch in batches)


def test_who_meets_whom_changes_with_each_epoch_even_among_rows_of_one_length():
    sampler = ByLength(np.ones(60, int), 6)
    assert {frozenset(b) for b in epoch(sampler, 0)} != {frozenset(b) for b in epoch(sampler, 1)}
    assert epoch(sampler, 1) == epoch(sampler, 1)


def test_far_more_rows_than_a_pool_are_sorted_a_pool_at_a_time():
    lengths = np.arange(POOL * 4 * 5)
    spans = [np.ptp(lengths[batch]) for batch in epoch(ByLength(lengths, 4))]
    assert np.mean(spans) > 6  # of neighbours among all rows it would be 3


class Counts:
    def cost(self, feature):
        return len(feature)


TOWERS = {"title": "text", "body": "text", "photo": "image"}
ENCODERS = {"text": Counts(), "image": Counts()}


def items(*lengths):
    return Items(features=[np.zeros(length) for length in lengths])


def test_a_row_is_as_long_as_its_longest_item():
    examples = Examples(
        {"title": np.array([0, 1, 5]), "body": np.array([1, 2, 0]), "photo": np.array([0, 0, 1])},
        {}, None, np.arange(3),
    )  # fmt: skip
    found = row_lengths(examples, TOWERS, {"text": items(3, 8, 5), "image": items(4, 4)}, ENCODERS)
    assert found.tolist() == [8, 8, 5]  # 5 is a variant of item 2


def test_rows_of_one_length_are_refused():
    examples = Examples({"photo": np.array([0, 1])}, {}, None, np.arange(2))
    with pytest.raises(DataError, match=r"train.sampler: by_length: .* take shuffled"):
        row_lengths(examples, TOWERS, {"text": items(), "image": items(4, 4)}, ENCODERS)
