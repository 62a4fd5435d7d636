"""Samplers: what each promises of a batch, whatever the seed, the epoch and the processes."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from accelerate import skip_first_batches
from accelerate.data_loader import prepare_data_loader
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from msiam.data.examples import Examples, positive_groups
from msiam.data.samplers import NoDuplicates, PerClass, Shuffled
from msiam.data.sampling import build_sampler
from msiam.errors import DataError, RecipeError
from msiam.recipe import Train
from msiam.registry.options import parse_options

TOWERS = {"a": "one", "b": "one", "c": "one"}


def examples_of(*groups):
    """Examples with these groups, one sequence a column."""
    columns = {
        name: np.asarray(group, np.int64) for name, group in zip("abc", groups, strict=False)
    }
    return Examples(columns, columns, None, np.arange(len(groups[0])))


def epoch(sampler, number=0):
    sampler.set_epoch(number)
    return list(sampler)


def rows_of(seed, n, groups, two):
    """Pairs of groups: of a row that is a positive pair one group twice, of others two."""
    random = np.random.default_rng(seed)
    one, other = random.integers(0, groups, (2, n))
    return list(
        zip(one.tolist(), np.where(random.random(n) < two, other, one).tolist(), strict=True)
    )


ROWS = st.builds(
    rows_of, st.integers(0, 999), st.integers(1, 200), st.integers(1, 600),
    st.sampled_from([0, 0.1, 1]),
)  # fmt: skip


@given(st.integers(0, 50), st.integers(2, 12), st.integers(0, 3))
def test_shuffled_has_every_row_once_an_epoch(n, size, number):
    sampler = Shuffled(n, size, seed=1)
    batches = epoch(sampler, number)
    assert len(batches) == len(sampler)
    assert all(len(batch) == size for batch in batches[:-1])
    assert sorted(row for batch in batches for row in batch) == list(range(n))


@pytest.mark.parametrize(("n", "sizes"), [(1, [1]), (9, [4, 5]), (10, [4, 4, 2]), (5, [5])])
def test_a_single_row_left_over_joins_the_batch_before(n, sizes):
    assert [len(batch) for batch in Shuffled(n, 4)] == sizes


def rivals_of(drawn):
    """Of each row, how many others each of its groups has, by hand."""
    sizes = Counter(group for row in drawn for group in set(row))
    return [[sizes[group] - 1 for group in set(row)] for row in drawn]


@settings(max_examples=300)
@given(ROWS, st.integers(1, 20), st.integers(1, 4), st.integers(0, 3))
def test_what_no_duplicates_promises(drawn, size, processes, number):
    n, rivals = len(drawn), rivals_of(drawn)
    most, least = max(map(sum, rivals)), min(2 * processes, size)
    mends = any(sum(of) > max(of) for of in rivals)
    room = n // least - (most if mends else 0)
    one, other = zip(*drawn, strict=True)
    if most and most >= room:
        with pytest.raises(DataError, match=f"may leave fewer than {least} rows a batch"):
            NoDuplicates(examples_of(one, other), size, share=(0, processes))
        return
    sampler = NoDuplicates(examples_of(one, other), size, seed=1, share=(0, processes))
    batches = sampler.batches(np.random.default_rng(number))
    assert len(batches) == len(sampler) == max(most + 1, min(-(-n // size), room))
    assert sorted(row for batch in batches for row in batch) == list(range(n))
    for batch in batches:
        groups = Counter(group for row in batch for group in set(drawn[row]))
        assert max(groups.values()) == 1
    sizes = [len(batch) for batch in batches]
    assert min(sizes) >= min(least, n)
    even = -(-n // len(batches))
    assert max(sizes) <= (max(even, n // (len(batches) - most) + 1) if mends else even)
    assert mends or max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(("processes", "size"), [(1, 2), (2, 4), (4, 8)])
def test_a_batch_that_gives_a_row_away_gets_another_where_it_would_be_too_small(processes, size):
    """Each row shares a group with the one before it and with the one after it."""
    number = np.arange(60)
    sampler = NoDuplicates(examples_of(number, number + 1), size, share=(0, processes))
    for seed in range(20):
        batches = sampler.batches(np.random.default_rng(seed))
        assert len(batches) == 60 // size - 2
        assert min(map(len, batches)) >= size
        assert all(np.diff(np.sort(batch)).min() > 1 for batch in batches)


def test_batches_whose_rows_share_little_are_of_one_size_but_for_a_row_or_two():
    random = np.random.default_rng(0)
    examples = examples_of(*random.integers(0, 1000, (2, 1000)))
    sizes = [len(batch) for batch in epoch(NoDuplicates(examples, 50))]
    assert len(sizes) == 20 and min(sizes) >= 48 and max(sizes) <= 52


def test_no_duplicates_makes_batches_of_one_size():
    sampler = NoDuplicates(examples_of(np.arange(1000) // 4), 64)
    assert Counter(map(len, epoch(sampler))) == {62: 8, 63: 8}


def test_no_duplicates_makes_more_batches_where_a_group_has_more_rows_than_there_would_be():
    sampler = NoDuplicates(examples_of(np.arange(1000) % 10), 64)
    assert Counter(map(len, epoch(sampler))) == {10: 100}


def test_no_duplicates_mends_what_only_a_second_column_shares():
    """By the first column alone no two rows conflict, and by the second every tenth does."""
    examples = examples_of(np.arange(300), 1000 + np.arange(300) % 30)
    for batch in epoch(NoDuplicates(examples, 20)):
        shared = examples.groups["b"][batch]
        assert len(set(shared)) == len(shared)


def test_no_duplicates_takes_no_two_negatives_of_one_group():
    """Triplets whose negatives are few: groups as they are found for a table."""
    numbers = np.arange(60)
    columns = {"a": numbers, "b": 60 + numbers, "c": 120 + numbers % 15}
    examples = Examples(columns, positive_groups(columns, TOWERS), None, numbers)
    for batch in epoch(NoDuplicates(examples, 8)):
        groups = np.concatenate([np.unique(g[batch]) for g in examples.groups.values()])
        assert len(set(groups)) == 2 * len(batch)  # anchor and positive are one


def test_a_group_in_most_rows_is_refused_with_its_row():
    groups = np.arange(40)
    groups[10:] = 10
    with pytest.raises(DataError, match=r"row 10 .* 29 of the 40 training rows.*shuffled"):
        NoDuplicates(examples_of(groups), 8)


@given(
    st.lists(st.integers(0, 12), min_size=1, max_size=80), st.integers(1, 4), st.integers(1, 4),
    st.integers(0, 3),
)  # fmt: skip
def test_classes_are_p_times_k(classes, p, k, number):
    examples = examples_of(classes)
    if p > len(set(classes)):
        with pytest.raises(DataError, match=f"set train.batch_size to {len(set(classes)) * k}"):
            PerClass(examples, p * k, k)
        return
    sampler = PerClass(examples, p * k, k, seed=1)
    batches = epoch(sampler, number)
    assert len(batches) == len(sampler) == -(-len(classes) // (p * k))
    sizes = Counter(classes)
    for batch in batches:
        found = Counter(classes[row] for row in batch)
        assert list(found.values()) == [k] * p
        for name in found:
            rows = [row for row in batch if classes[row] == name]
            assert len(set(rows)) == min(k, sizes[name])


def test_classes_take_turns_and_give_all_of_their_rows():
    classes = np.repeat(np.arange(12), 8)
    batches = epoch(PerClass(examples_of(classes), 16, 4))
    rows = [row for batch in batches for row in batch]
    assert sorted(rows) == list(range(96))
    assert epoch(PerClass(examples_of(classes), 16, 4)) == batches


@pytest.mark.parametrize(
    "make",
    [
        lambda seed: Shuffled(100, 10, seed),
        lambda seed: NoDuplicates(examples_of(np.arange(100) // 3), 10, seed),
        lambda seed: PerClass(examples_of(np.arange(100) // 5), 10, 2, seed),
    ],
    ids=["shuffled", "no_duplicates", "classes"],
)
def test_the_order_depends_on_seed_and_epoch_alone(make):
    def order(seed, number, epochs_before=()):
        sampler = make(seed)
        for before in epochs_before:
            epoch(sampler, before)
        return epoch(sampler, number)

    assert order(0, 2) == order(0, 2, epochs_before=(0, 1))
    assert order(0, 2) != order(0, 1)
    assert order(0, 2) != order(1, 2)


SAMPLERS = ["shuffled", "no_duplicates", "by_length", {"name": "classes", "per_class": 2}]


@given(
    st.lists(st.integers(0, 30), min_size=8, max_size=120), st.integers(2, 4),
    st.sampled_from(SAMPLERS), st.integers(0, 2),
)  # fmt: skip
def test_shares_together_are_the_global_batch(classes, processes, sampler, number):
    examples = examples_of(classes)
    settings = parse_options(Settings, {"batch_size": 8, "sampler": sampler}, "train")
    largest, least = max(Counter(classes).values()), 2 * processes
    few = {
        "shuffled": False,
        "by_length": False,
        "no_duplicates": largest > max(1, len(classes) // least),
        "classes": len(set(classes)) < 4,
    }
    if few[settings.sampler.name]:
        with pytest.raises(DataError, match=f"train.sampler: {settings.sampler.name}: "):
            build_sampler(settings, examples, (0, processes))
        return
    shares = [
        build_sampler(settings, examples, (p, processes), lambda: np.array(classes))
        for p in range(processes)
    ]
    found = [epoch(share, number) for share in shares]
    assert {len(share) for share in found} == {len(shares[0])}
    random = np.random.default_rng([0, number])
    for parts, whole in zip(zip(*found, strict=True), shares[0].batches(random), strict=True):
        assert [row for part in parts for row in part] == whole.tolist()
        sizes = [len(part) for part in parts]
        assert max(sizes) - min(sizes) <= 1 and min(sizes) >= 2


class Settings:
    Options = Train


def test_the_batches_are_the_same_whatever_the_number_of_processes():
    lengths = np.arange(96) % 7
    for sampler in SAMPLERS:
        settings = parse_options(Settings, {"batch_size": 12, "sampler": sampler}, "train")
        examples = examples_of(np.arange(96) // 4)
        alone = epoch(build_sampler(settings, examples, lengths=lambda: lengths), 3)
        shares = [
            epoch(build_sampler(settings, examples, (p, 3), lambda: lengths), 3) for p in range(3)
        ]
        assert [
            [row for part in parts for row in part] for parts in zip(*shares, strict=True)
        ] == alone


def test_more_processes_than_rows_of_a_batch_are_refused():
    with pytest.raises(DataError, match=r"batch of 4 of the 50 training rows .* by 8 processes"):
        build_sampler(Train(batch_size=4), examples_of(np.arange(50)), (0, 8))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sampler": {"name": "classes", "per_class": 5}}, "64 is no multiple of .*per_class 5"),
        ({"sampler": {"name": "shuffled", "per_class": 4}}, "per_class is .* for classes"),
        ({"sampler": "random"}, "train: sampler.name: found 'random'.*'no_duplicates'"),
        ({"sampler": {"name": "classes", "perclass": 4}}, "perclass.*did you mean 'per_class'"),
    ],
)
def test_a_sampler_that_cannot_be_is_refused(settings, message):
    with pytest.raises(RecipeError, match=message):
        parse_options(Settings, settings, "train")


def test_classes_have_four_items_each_unless_said():
    assert Train(sampler="classes").sampler.per_class == 4
    assert Train(sampler="classes").model_dump()["sampler"] == {"name": "classes", "per_class": 4}
    assert Train().model_dump()["sampler"] == "shuffled"


def loaders(n, processes, size=4):
    """The loader of each process, as the trainer has them."""
    found = []
    for process in range(processes):
        sampler = Shuffled(n, size, seed=3, share=(process, processes))
        loader = DataLoader(sampler.rows, batch_sampler=sampler, collate_fn=list)
        found.append(prepare_data_loader(loader, num_processes=1, process_index=0))
    return found


def epoch_of(loader, number, skip=0):
    """One epoch as transformers.Trainer goes through it; ``skip`` batches if it resumes there."""
    if skip:
        loader = skip_first_batches(loader, skip)
    loader.set_epoch(number)
    inner = getattr(loader.batch_sampler, "batch_sampler", None)
    if hasattr(inner, "set_epoch"):
        inner.set_epoch(number)
    return list(loader)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_resumed_epoch_goes_on_where_it_was(processes):
    whole = [[epoch_of(loader, e) for e in range(3)] for loader in loaders(32, processes)]
    resumed = [
        [epoch_of(loader, 1, skip=3), epoch_of(loader, 2)] for loader in loaders(32, processes)
    ]
    for process in range(processes):
        assert resumed[process] == [whole[process][1][3:], whole[process][2]]


def test_what_claims_a_class_is_drawn_with_its_members():
    claims = np.arange(40) // 10
    groups = np.where(np.arange(40) % 10 < 6, claims, 100 + np.arange(40))
    examples = Examples.build(
        {"left": np.arange(40)}, {"left": "text"}, classes={"left": groups}, claims=claims
    )
    for batch in epoch(PerClass(examples, 20, 10)):
        drawn = claims[batch]
        assert (np.bincount(drawn)[np.unique(drawn)] == 10).all()
        assert len(set(groups[batch].tolist())) == 2 + 8  # the members' classes, and the others
