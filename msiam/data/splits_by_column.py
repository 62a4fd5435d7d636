"""Splits by a column of the table, such as an alphabet or a camera: its values are held out."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from msiam.data.examples import Examples, Towers, row_components
from msiam.data.splits import BY_ITEM, TRAIN, apart, fill
from msiam.errors import DataError


def split_by_column(
    examples: Examples, towers: Towers, held: Mapping[str, float | np.ndarray], seed: int, by: str
) -> tuple[dict[str, Examples], str]:
    """Hold out values of ``by``, some by name or a share of them: a value's rows are in one part.

    Values whose rows share an item hang together, so that no item is on both sides either. What
    hangs together goes, in random order, to the first held-out part that has room for it, else to
    training; what is named goes where it is named.

    Args:
        held: held-out part -> the numbers of its values, or its share of all values; above 0
            stands for one value at least.
        by: one of the rows' attributes.

    Returns:
        Part ("train" and the held-out ones) -> its rows, in their order; and a sentence for the
        report.

    Raises:
        DataError: no row could be read; there are too few values, or too many hang together.
    """
    if len(examples) == 0:
        raise DataError("data.table: none of its rows can be read; give a table of which some can")
    columns, kinds = apart(examples, towers, by)
    component = np.unique(row_components(columns, kinds), return_inverse=True)[1]
    values, first = np.unique(examples.attributes[by], return_index=True)
    component_of = component[first]  # by value
    sizes = np.bincount(component_of)  # in values
    n = len(values)
    wanted = {part: _size(one, n) for part, one in held.items()}
    asked = ", ".join(f"{size} for {part}" for part, size in wanted.items())
    if sum(wanted.values()) >= n:
        raise DataError(
            f"data.split: asks for {asked} of {n} values of '{by}', which leaves none for "
            "training; give more of them, or smaller parts"
        )
    named = _named(held, values, component_of, by)
    queue = np.random.default_rng(seed).permutation(len(sizes))
    room = [0 if isinstance(held[part], np.ndarray) else size for part, size in wanted.items()]
    filled = fill(queue[named[queue] < 0], sizes, room)
    filled = np.where(named < 0, filled, named)
    parts, counts = {}, {}
    for number, part in enumerate((*wanted, TRAIN)):
        parts[part] = examples.select(filled[component] == number)
        counts[part] = int(sizes[filled == number].sum())
        if not counts[part] and wanted.get(part, 1):
            raise DataError(
                f"the split leaves no value of '{by}' for {part}: {sizes.max()} of {n} "
                "hang together by items that they share, and no split may part them; set "
                f"{BY_ITEM}"
            )
    found = ", ".join(f"{count:,} for {part}" for part, count in counts.items())
    return parts, (
        f"Split by '{by}' ({found}), so that what is measured is how well the model does on values "
        "of it that it has never seen."
    )


def _size(held: float | np.ndarray, n: int) -> int:
    """How many of n values a part has."""
    if isinstance(held, np.ndarray):
        return len(np.unique(held))
    return max(round(held * n), int(held > 0))


def _named(
    held: Mapping[str, float | np.ndarray], values: np.ndarray, component_of: np.ndarray, by: str
) -> np.ndarray:
    """The number of the part that names the values of each component; -1 where none does.

    Raises:
        DataError: a value is named twice, or hangs together with one that is not named with it.
    """
    owner = np.full(len(values), -1)
    for number, (part, one) in enumerate(held.items()):
        if not isinstance(one, np.ndarray):
            continue
        inside = np.isin(values, one)
        if missing := len(np.unique(one)) - inside.sum():
            raise DataError(
                f"data.split.{part}: {missing} of the values of '{by}' that it names have no row "
                "in data.table that can be held out; leave them out"
            )
        if (owner[inside] >= 0).any():
            raise DataError(
                f"data.split.{part}: names a value of '{by}' that another part names too; name it "
                "once"
            )
        owner[inside] = number
    named = np.full(component_of.max() + 1, -1)
    named[component_of] = owner
    if (torn := named[component_of] != owner).any():
        raise DataError(
            f"data.split: {torn.sum()} values of '{by}' hang together by items with values that "
            f"another part has, and no split may part them; name them together, or set {BY_ITEM}"
        )
    return named
