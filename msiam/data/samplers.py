"""Which rows make a batch: shuffled, without duplicates, or so many items of so many classes.

A batch is the global one: of several processes each takes one share of it, in the order of their
ranks, so that what is promised of a batch holds whatever their number. All processes have the same
number of batches. Where the rows of a batch do not divide by the number of processes, the first
ones take one row more.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterator

import numpy as np
from torch.utils.data import Dataset, Sampler

from msiam.data.examples import Examples
from msiam.errors import DataError


class Rows(Dataset[int]):
    """The row numbers 0 … n − 1, as the data set of a DataLoader; the collator does the rest.

    It also keeps the epoch: ``accelerate`` tells it to the data set however deep it wraps the
    batch sampler, as it does when a training resumes in the middle of an epoch.
    """

    def __init__(self, n: int) -> None:
        self.n = n
        self.epoch = 0

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, row: int) -> int:
        return row

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch


class BatchSampler(Sampler[list[int]], ABC):
    """Batches of row numbers; of each batch, the share of this process.

    The batches of an epoch depend on seed and epoch alone, so that a resumed run sees what it
    would have seen.

    Use it as ``DataLoader(sampler.rows, batch_sampler=sampler, collate_fn=collator)``.

    Args:
        n: the number of rows.
        share: this process and the number of processes.
    """

    def __init__(self, n: int, seed: int = 0, share: tuple[int, int] = (0, 1)) -> None:
        self.rows = Rows(n)
        self.seed = seed
        self.process, self.processes = share

    @abstractmethod
    def __len__(self) -> int:
        """The number of batches, the same in every epoch."""

    @abstractmethod
    def batches(self, random: np.random.Generator) -> list[np.ndarray]:
        """The global batches of an epoch."""

    def set_epoch(self, epoch: int) -> None:
        self.rows.set_epoch(epoch)

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self.batches(np.random.default_rng([self.seed, self.rows.epoch])):
            yield np.array_split(batch, self.processes)[self.process].tolist()


class Shuffled(BatchSampler):
    """All rows once an epoch, in any order.

    A row that is left over joins the batch before it: alone it has no negatives, and a batch norm
    cannot learn from it. So do rows that would leave a process with fewer than two.
    """

    def __init__(
        self, n: int, batch_size: int, seed: int = 0, share: tuple[int, int] = (0, 1)
    ) -> None:
        super().__init__(n, seed, share)
        self.batch_size = batch_size

    def __len__(self) -> int:
        whole, rest = divmod(len(self.rows), self.batch_size)
        return max(1, whole) if 0 < rest < 2 * self.processes else whole + (rest > 0)

    def batches(self, random: np.random.Generator) -> list[np.ndarray]:
        return self.cut(random.permutation(len(self.rows)))

    def cut(self, order: np.ndarray) -> list[np.ndarray]:
        """Rows in this order to batches."""
        return np.split(order, self.batch_size * np.arange(1, len(self)))[: len(self)]


class NoDuplicates(BatchSampler):
    """All rows once an epoch; no two rows of a batch have items of one group, in any column.

    So no candidate of a batch is a false negative, and none has to be masked. There are as many
    batches as ``batch_size`` asks for; more, and smaller ones, where a group has more rows than
    that; fewer, and larger ones, where a process would have fewer than two rows of a batch, unless
    ``batch_size`` asks for that or there are no more.

    The rows of a group lie one after another in a random order of the groups, and are dealt out
    to the batches in turn, so that these are of one size. What is then left to mend are rows of
    several groups (pairs that differ, triplets): a row whose group is there already goes on to the
    smallest batch that has none of its groups. With m the most rows that any row shares groups
    with, m + 1 batches always suffice; of n rows, none goes on to a batch that has more than
    n / (batches − m) already.

    Raises:
        DataError: batches could be too small, so many rows share a group.
    """

    def __init__(
        self, examples: Examples, batch_size: int, seed: int = 0, share: tuple[int, int] = (0, 1)
    ) -> None:
        super().__init__(len(examples), seed, share)
        groups = np.stack(list(examples.groups.values()), axis=1)
        known, numbers = np.unique(groups, return_inverse=True)
        self.groups = numbers.reshape(groups.shape)
        # Each row with each of its groups, once.
        both = np.unique(np.arange(len(groups))[:, None] * len(known) + self.groups)
        row, group = np.divmod(both, max(len(known), 1))
        sizes = np.bincount(group, minlength=len(known))
        rivals = np.bincount(row, sizes[group] - 1, len(groups)).astype(int)
        # The largest group of each row, and whether others of its groups have more rows as well.
        largest = sizes[self.groups].argmax(axis=1, keepdims=True)
        self.own = np.take_along_axis(self.groups, largest, axis=1)[:, 0]
        self.mixed = rivals >= sizes[self.own]
        most = int(rivals.max(initial=0))
        self.least = min(2 * self.processes, batch_size)
        # Rows that are dealt out in turn make n / least large enough batches. Where some go on: a
        # batch that is short and the rivals of its rows are less than least · (1 + most) rows. Of
        # b ≤ n / least − most batches, the b − 1 others have more than least · (b − 1) rows beside
        # these, so that one of them has more than least, and can give one.
        room = len(self.rows) // self.least - (most if self.mixed.any() else 0)
        if 0 < most >= room:
            worst = rivals.argmax()
            sharing = int(np.isin(self.groups, self.groups[worst]).any(axis=1).sum()) - 1
            raise DataError(
                f"train.sampler: no_duplicates: row {examples.rows[worst]} (from 0) shares items "
                f"or groups with {sharing} of the {len(self.rows)} training rows, which may leave "
                f"fewer than {self.least} rows a batch; take shuffled, or classes"
            )
        self.number = max(most + 1, min(math.ceil(len(self.rows) / batch_size), room))

    def __len__(self) -> int:
        return self.number

    def batches(self, random: np.random.Generator) -> list[np.ndarray]:
        shuffled = random.permutation(len(self.rows))
        turn = random.permutation(self.groups.max(initial=0) + 1)
        order = shuffled[np.argsort(turn[self.own[shuffled]], kind="stable")]
        batch = np.empty_like(order)
        batch[order] = np.arange(len(order)) % self.number
        if self.mixed.any():
            sizes = np.bincount(batch, minlength=self.number)
            self._part(batch, sizes, order)
            self._fill(batch, sizes)
        by_batch = shuffled[np.argsort(batch[shuffled], kind="stable")]
        ends = np.bincount(batch, minlength=self.number).cumsum()
        found = np.split(by_batch, ends[:-1])
        return [found[number] for number in random.permutation(self.number)]

    def _part(self, batch: np.ndarray, sizes: np.ndarray, order: np.ndarray) -> None:
        """Move rows out of batches that have one of their groups already."""
        touched = np.zeros(self.groups.max() + 1, bool)
        touched[self.groups[self.mixed]] = True
        order = order[touched[self.groups[order]].any(axis=1)]
        having: dict[int, list[int]] = defaultdict(list)  # the batches that have a group
        for row, groups in zip(order.tolist(), self.groups[order].tolist(), strict=True):
            here = int(batch[row])
            taken = [number for group in groups for number in having[group]]
            if here in taken:
                free = sizes.copy()
                free[taken] = len(batch) + 1
                batch[row] = there = int(free.argmin())
                sizes[here] -= 1
                sizes[there] += 1
                here = there
            for group in groups:
                having[group].append(here)

    def _fill(self, batch: np.ndarray, sizes: np.ndarray) -> None:
        """Move rows of the largest batches to those that are too small for the processes."""
        while sizes.min() < self.least:
            small = sizes.argmin()
            rivals = np.isin(self.groups, self.groups[batch == small]).any(axis=1)
            row = np.where(rivals, 0, sizes[batch]).argmax()
            sizes[batch[row]] -= 1
            sizes[small] += 1
            batch[row] = small


class PerClass(BatchSampler):
    """P × K: each batch has P classes, and K items of each (Hermans, Beyer and Leibe, 2017).

    The classes are those that the rows name in the first column, so that what only claims to be of
    a class, as a forged signature does, meets it there. They take turns, each once a round in a
    random order, so that small ones count as much as large ones; classes left over at the end of a
    round sit it out. A class gives its rows in a random order and begins again when all were there:
    a class of fewer than K rows has some of them several times in a batch. An epoch has n rows,
    rounded up to whole batches.

    Raises:
        DataError: there are fewer classes than a batch has.
    """

    def __init__(
        self,
        examples: Examples,
        batch_size: int,
        per_class: int,
        seed: int = 0,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        super().__init__(len(examples), seed, share)
        self.per_class, self.each = per_class, batch_size // per_class
        groups = next(iter(examples.named.values()))
        _, self.classes, self.sizes = np.unique(groups, return_inverse=True, return_counts=True)
        if len(self.sizes) < self.each:
            raise DataError(
                f"train.sampler: classes: a batch of {batch_size} has {per_class} items of each of "
                f"{self.each} classes, and the training rows have {len(self.sizes)}; set "
                f"train.batch_size to {len(self.sizes) * per_class} or less"
            )

    def __len__(self) -> int:
        return math.ceil(len(self.rows) / (self.each * self.per_class))

    def batches(self, random: np.random.Generator) -> list[np.ndarray]:
        count = len(self.sizes)
        in_round = count // self.each  # batches
        rounds = np.tile(np.arange(count), (math.ceil(len(self) / in_round), 1))
        turns = random.permuted(rounds, axis=1)[:, : in_round * self.each]
        chosen = turns.reshape(-1)[: len(self) * self.each]

        shuffled = random.permutation(len(self.rows))
        rows = shuffled[np.argsort(self.classes[shuffled], kind="stable")]  # class by class
        starts = self.sizes.cumsum() - self.sizes
        items = _times_before(chosen)[:, None] * self.per_class + np.arange(self.per_class)
        places = starts[chosen, None] + items % self.sizes[chosen, None]
        return list(rows[places].reshape(len(self), -1))


def _times_before(values: np.ndarray) -> np.ndarray:
    """How often each value was there before. Small integers, (n,)."""
    order = np.argsort(values, kind="stable")
    counts = np.bincount(values)
    starts = counts.cumsum() - counts
    times = np.empty_like(order)
    times[order] = np.arange(len(values)) - starts[values[order]]
    return times
