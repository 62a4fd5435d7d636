"""Splits that do not leak: no item, and of data with classes no class, is on both sides."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from msiam.data.examples import Columns, Examples, Towers, row_components
from msiam.errors import DataError

TRAIN = "train"
BY = "data.split.by"
BY_ITEM = f"{BY}: item"


def split(
    examples: Examples,
    towers: Towers,
    shares: Mapping[str, float],
    seed: int = 0,
    by: str = "item",
) -> tuple[dict[str, Examples], str]:
    """Hold out shares of the rows by connected components of the graph of all pairs.

    Positive and negative pairs count alike. By class, so do items of one class. Components are
    taken in random order; each goes to the first held-out part that has room for it, else to
    training. By class, a part that then has less than two classes takes the smallest components
    that are left, for within one class there is nothing to tell apart.

    Negatives that were mined tie nearly all rows together. Where a held-out part thus gets less
    than half of its rows, the rows of more than two columns are split by their pairs, the first
    two columns, alone. A training row with a held-out negative is then left out, and what is held
    out are pairs without negatives, each once. A scored row keeps its third column, to which its
    score belongs; it is left out where that item is another part's.

    Args:
        shares: held-out part -> its share of the rows, as {"validation": 0.1, "test": 0.1}. A
            share above 0 stands for one row at least.
        by: what no two parts share, "item" or "class".

    Returns:
        Part ("train" and the held-out ones) -> its rows, in their order; and a sentence for the
        report on what it took.

    Raises:
        DataError: a part gets no row, since too many rows hang together.
    """
    n = len(examples)
    if n == 0:
        raise DataError("data.table: none of its rows can be read; give a table of which some can")
    wanted = {part: max(round(share * n), int(share > 0)) for part, share in shares.items()}
    if sum(wanted.values()) >= n:
        asked = ", ".join(f"{size} for {part}" for part, size in wanted.items())
        raise DataError(
            f"data.split: asks for {asked} of {n} rows, which leaves none for training; give more "
            "rows, or smaller parts"
        )
    parts, largest, note = _by_components(examples, towers, wanted, seed, by)
    short = any(len(parts[part]) < size / 2 for part, size in wanted.items())
    if short and by == "item" and len(examples.columns) > 2:
        return _by_pairs(examples, towers, wanted, seed)
    _require_rows(parts, wanted, largest, by)
    return {part: examples.select(index) for part, index in parts.items()}, note


def _by_components(
    examples: Examples, towers: Towers, wanted: Mapping[str, int], seed: int, by: str
) -> tuple[dict[str, np.ndarray], int, str]:
    """Part -> positions in ``examples``, ascending; the rows of the largest component; a note."""
    n = len(examples)
    columns, kinds = apart(examples, towers, by)
    _, first, component, sizes = np.unique(
        row_components(columns, kinds),
        return_index=True,
        return_inverse=True,
        return_counts=True,
    )
    turn = np.random.default_rng(seed).permutation(n)
    plain = _deal(np.argsort(turn), list(wanted.values()))
    # A component's turn is that of its first row, so that its size does not favour it.
    queue = np.argsort(turn[first])
    filled = fill(queue, sizes, list(wanted.values()))
    if by == "class":
        _two_each(filled, queue, sizes, _pairable(examples, component), list(wanted.values()))
    assigned = filled[component]
    parts = {part: np.flatnonzero(assigned == k) for k, part in enumerate((*wanted, TRAIN))}
    largest = int(sizes.max())
    if by == "class":
        return parts, largest, _classes_note(examples, parts)
    moved = (plain != assigned).sum()
    leaking = _leaking(plain, columns, kinds, held_out=len(wanted))
    return (
        parts,
        largest,
        f"Split by the {len(sizes):,} connected components of the pair graph (the largest has "
        f"{largest:,} of {n:,} rows), so that no item is on both sides: this took moving "
        f"{moved:,} rows. In a plain random split, {leaking:,} held-out rows would have an item "
        "that another part has too."
        + (" Classes are on both sides (closed set)." if examples.classed else ""),
    )


def _require_rows(
    parts: Mapping[str, np.ndarray], wanted: Mapping[str, int], largest: int, by: str
) -> None:
    n = sum(map(len, parts.values()))
    for part, index in parts.items():
        if len(index) == 0 and wanted.get(part, 1) > 0:
            ties, give = "items", "more rows, other shares, or a held-out table"
            if by == "class":
                ties, give = "classes", f"more classes, or set {BY_ITEM}"
            raise DataError(
                f"the split leaves no row for {part}: {largest} of {n} rows hang together by "
                f"{ties} that they share, and no split may part them; give {give}"
            )


def _by_pairs(
    examples: Examples, towers: Towers, wanted: Mapping[str, int], seed: int
) -> tuple[dict[str, Examples], str]:
    """``split`` by the first two columns: no negative of one part is an item of another."""
    pairs = examples.pairs()
    index, largest, note = _by_components(pairs, towers, wanted, seed, "item")
    _require_rows(index, wanted, largest, "item")
    parts = {part: pairs.select(rows) for part, rows in index.items()}
    held_out = {part: rows.columns for part, rows in parts.items() if part != TRAIN}
    parts[TRAIN], dropped = _without(examples.select(index[TRAIN]), held_out, towers, TRAIN)
    note += (
        f" That is the split of {' and '.join(pairs.columns)} alone, since negatives tie the rows "
        f"together; {dropped:,} of {len(index[TRAIN]):,} training rows have a held-out negative "
        "and were left out"
    )
    if examples.scores is None:
        parts |= {part: parts[part].without_repeats() for part in held_out}
        return parts, f"{note}, and held-out rows do without theirs, each pair once."
    dropped = 0
    for part in held_out:
        others = {other: rows.columns for other, rows in parts.items() if other != part}
        parts[part], leaking = _without(examples.select(index[part]), others, towers, part)
        dropped += leaking
    return parts, f"{note}, and so were {dropped:,} held-out rows with a negative of another part."


def _without(
    examples: Examples, others: Mapping[str, Columns], towers: Towers, part: str
) -> tuple[Examples, int]:
    """The rows of a part that have no item of the others, and how many were left out.

    Raises:
        DataError: all were.
    """
    leaks = np.any([_touches(examples.columns, items, towers) for items in others.values()], axis=0)
    if len(leaks) and leaks.all():
        raise DataError(
            f"the split leaves no row for {part}: each of its {len(examples)} rows has a negative "
            f"that {' or '.join(others)} has too; give more rows, other shares, or a held-out table"
        )
    return examples.select(~leaks), int(leaks.sum())


def apart(examples: Examples, towers: Towers, by: str) -> tuple[Columns, Towers]:
    """What no two parts share, by column: numbers, and the numbering that they are in."""
    if by == "item":
        return examples.columns, towers
    if by == "class":
        return examples.named, dict.fromkeys(examples.named, "class")
    return {**examples.columns, BY: examples.attributes[by]}, {**towers, BY: BY}


def _classes_note(examples: Examples, parts: Mapping[str, np.ndarray]) -> str:
    counts = ", ".join(
        f"{len(examples.select(index).distinct_classes()):,} for {part}"
        for part, index in parts.items()
    )
    return (
        f"Split by whole classes ({counts}), so that what is measured is how well the model tells "
        f"apart classes that it has never seen (open set). For classes on both sides: {BY_ITEM}."
    )


def require_classes(part: str, examples: Examples, by: str) -> None:
    """Raise unless a part has something to tell apart, and something that belongs together.

    Raises:
        DataError: it has less than two classes, or no two items that are of one.
    """
    more = f"more classes, or set {BY_ITEM}" if by == "class" else "more rows, or larger parts"
    groups = [np.unique(column) for column in examples.groups.values()]
    if len(np.unique(np.concatenate(groups))) < 2:
        raise DataError(
            f"{part}: would have rows of one class alone, and it takes two to tell apart; give "
            + more
        )
    if len(groups) == 1:
        ((numbers,),) = [examples.columns.values()]
        together = len(np.unique(numbers)) > len(groups[0])
    else:
        together = bool(np.isin(groups[0], groups[1]).any())
    if not together:
        raise DataError(f"{part}: would have no two items of one class; give {more}")


def _deal(order: np.ndarray, wanted: list[int]) -> np.ndarray:
    """The part's number of each row if rows are simply dealt out in ``order``; training is last."""
    part = np.full(len(order), len(wanted))
    for number, (stop, size) in enumerate(zip(np.cumsum(wanted), wanted, strict=True)):
        part[order[stop - size : stop]] = number
    return part


def fill(queue: np.ndarray, sizes: np.ndarray, wanted: list[int]) -> np.ndarray:
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


def _pairable(examples: Examples, component: np.ndarray) -> np.ndarray:
    """Which components have two items that may be a pair, bool (components,).

    Of one column those with two distinct items; of two, all.
    """
    first, *others = examples.columns.values()
    width = 1 + int(first.max())
    distinct = np.unique(component * width + first)
    return np.bincount(distinct // width) + len(others) >= 2


def _two_each(
    part: np.ndarray,
    queue: np.ndarray,
    sizes: np.ndarray,
    pairable: np.ndarray,
    wanted: list[int],
) -> None:
    """Give each held-out part two components at least, in one of which something is to be found.

    They are the smallest that training can spare; of equally small ones, that whose turn is first.
    """
    spare = sorted(
        queue[part[queue] == len(wanted)], key=lambda one: (not pairable[one], sizes[one])
    )
    for number in np.flatnonzero(wanted):
        own = np.flatnonzero(part == number).tolist()
        while len(spare) > 2 and not (len(own) >= 2 and pairable[own].any()):
            own.append(spare.pop(0))
        part[own] = number


def _leaking(part: np.ndarray, columns: Columns, towers: Towers, held_out: int) -> int:
    """Rows of the first ``held_out`` parts that share an item with a row of another part."""
    leaks = np.zeros(len(part), bool)
    for number in range(held_out):
        inside = part == number
        others = {column: numbers[~inside] for column, numbers in columns.items()}
        leaks |= inside & _touches(columns, others, towers)
    return int(leaks.sum())


def without_leaks(
    train: Examples, held_out: Examples, towers: Towers, by: str = "item"
) -> tuple[Examples, int]:
    """The training rows that share no item with a held-out row, and how many were dropped.

    By class: those that share no class; by a column, no value of it and no item.

    Raises:
        DataError: all would be.
    """
    columns, kinds = apart(train, towers, by)
    leaks = _touches(columns, apart(held_out, towers, by)[0], kinds)
    if len(train) and leaks.all():
        what, instead = "an item", "tables with different items"
        if by == "class":
            what, instead = "a class", f"tables with different classes, or set {BY_ITEM}"
        elif by != "item":
            what, instead = f"an item or a '{by}'", f"other tables, or set {BY_ITEM}"
        raise DataError(
            f"each of the {len(train)} training rows shares {what} with a held-out row; give "
            f"{instead}"
        )
    return train.select(~leaks), int(leaks.sum())


def _touches(columns: Columns, others: Columns, towers: Towers) -> np.ndarray:
    """Which rows of ``columns`` have a number that ``others`` have too, bool (n,)."""
    found: list[np.ndarray] = []
    for column, numbers in columns.items():
        theirs = [n for c, n in others.items() if towers[c] == towers[column]]
        found.append(np.isin(numbers, np.concatenate([numbers[:0], *theirs])))
    return np.any(found, axis=0)
