"""Splits that do not leak: no item is ever on both sides."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from msiam.data.examples import Examples, Towers, row_components
from msiam.errors import DataError

TRAIN = "train"


def split(
    examples: Examples, towers: Towers, shares: Mapping[str, float], seed: int = 0
) -> tuple[dict[str, np.ndarray], str]:
    """Hold out shares of the rows by connected components of the graph of all pairs.

    Positive and negative pairs count alike. Components are taken in random order; each goes to
    the first held-out part that has room for it, else to training.

    Args:
        shares: held-out part -> its share of the rows, as {"validation": 0.1, "test": 0.1}. A
            share above 0 stands for one row at least.

    Returns:
        Part ("train" and the held-out ones) -> positions in ``examples``, ascending; and a
        sentence for the report on what it took.

    Raises:
        DataError: a part gets no row, since too many rows hang together.
    """
    n = len(examples)
    if n == 0:
        raise DataError("there is no row to split; give a table with rows that can be read")
    wanted = {part: max(round(share * n), int(share > 0)) for part, share in shares.items()}
    if sum(wanted.values()) >= n:
        asked = ", ".join(f"{size} for {part}" for part, size in wanted.items())
        raise DataError(
            f"the split asks for {asked} of {n} rows, which leaves none for training; give more "
            "rows, or smaller parts"
        )
    _, first, component, sizes = np.unique(
        row_components(examples.columns, towers),
        return_index=True,
        return_inverse=True,
        return_counts=True,
    )
    turn = np.random.default_rng(seed).permutation(n)
    plain = _deal(np.argsort(turn), list(wanted.values()))
    # A component's turn is that of its first row, so that its size does not favour it.
    assigned = _fill(np.argsort(turn[first]), sizes, list(wanted.values()))[component]
    parts = {part: np.flatnonzero(assigned == k) for k, part in enumerate((*wanted, TRAIN))}

    largest = int(sizes.max())
    for part, index in parts.items():
        if len(index) == 0 and wanted.get(part, 1) > 0:
            raise DataError(
                f"the split leaves no row for {part}: {largest} of {n} rows hang together by "
                "items that they share, and no split may part them; give more rows, other shares, "
                "or a held-out table"
            )
    moved = (plain != assigned).sum()
    leaking = _leaking(plain, examples, towers, held_out=len(wanted))
    return parts, (
        f"Split by the {len(sizes):,} connected components of the pair graph (the largest has "
        f"{largest:,} of {n:,} rows), so that no item is on both sides: this took moving "
        f"{moved:,} rows and dropping none. In a plain random split, {leaking:,} held-out rows "
        "would have an item that another part has too."
    )


def _deal(order: np.ndarray, wanted: list[int]) -> np.ndarray:
    """The part's number of each row if rows are simply dealt out in ``order``; training is last."""
    part = np.full(len(order), len(wanted))
    for number, (stop, size) in enumerate(zip(np.cumsum(wanted), wanted, strict=True)):
        part[order[stop - size : stop]] = number
    return part


def _fill(queue: np.ndarray, sizes: np.ndarray, wanted: list[int]) -> np.ndarray:
    """The part's number of each component, taken in the order of ``queue``; training is last."""
    part = np.full(len(sizes), len(wanted))
    room = list(wanted)
    for component in queue.tolist():
        if not any(room):
            break
        for number, left in enumerate(room):
            if sizes[component] <= left:
                part[component] = number
                room[number] -= int(sizes[component])
                break
    return part


def _leaking(part: np.ndarray, examples: Examples, towers: Towers, held_out: int) -> int:
    """Rows of the first ``held_out`` parts that share an item with a row of another part."""
    leaks = np.zeros(len(examples), bool)
    for number in range(held_out):
        inside = part == number
        leaks |= inside & _touches(examples, examples.select(~inside), towers)
    return int(leaks.sum())


def without_leaks(train: Examples, held_out: Examples, towers: Towers) -> tuple[Examples, int]:
    """The training rows that share no item with a held-out row, and how many were dropped.

    Raises:
        DataError: all would be.
    """
    leaks = _touches(train, held_out, towers)
    if len(train) and leaks.all():
        raise DataError(
            f"each of the {len(train)} training rows shares an item with a held-out row; give "
            "tables with different items"
        )
    return train.select(~leaks), int(leaks.sum())


def _touches(examples: Examples, others: Examples, towers: Towers) -> np.ndarray:
    """Which rows of ``examples`` have an item that ``others`` have too, bool (n,)."""
    found = np.zeros(len(examples), bool)
    for column, numbers in examples.columns.items():
        theirs = [n for c, n in others.columns.items() if towers[c] == towers[column]]
        found |= np.isin(numbers, np.concatenate(theirs))
    return found
