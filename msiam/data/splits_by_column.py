"""Splits by a column of the table, such as an alphabet or a camera: its values are held out."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from msiam.data.examples import Examples, Towers, row_components
from msiam.data.splits import TRAIN, apart, fill
from msiam.errors import DataError


def split_by_column(
    examples: Examples, towers: Towers, shares: Mapping[str, float], seed: int, by: str
) -> tuple[dict[str, Examples], str]:
    """Hold out shares of the values of ``by``: all rows of a value are in one part.

    Values whose rows share an item hang together, so that no item is on both sides either. What
    hangs together goes, in random order, to the first held-out part that has room for it, else to
    training.

    Args:
        shares: held-out part -> its share of the values; above 0 stands for one value at least.
        by: one of the rows' attributes.

    Returns:
        Part ("train" and the held-out ones) -> its rows, in their order; and a sentence for the
        report.

    Raises:
        DataError: there are too few values, or too many hang together.
    """
    columns, kinds = apart(examples, towers, by)
    component = np.unique(row_components(columns, kinds), return_inverse=True)[1]
    values, first = np.unique(examples.attributes[by], return_index=True)
    sizes = np.bincount(component[first])  # in values
    n = len(values)
    wanted = {part: max(round(share * n), int(share > 0)) for part, share in shares.items()}
    asked = ", ".join(f"{size} for {part}" for part, size in wanted.items())
    if sum(wanted.values()) >= n:
        raise DataError(
            f"the split asks for {asked} of {n} values of '{by}', which leaves none for "
            "training; give more of them, or smaller parts"
        )
    queue = np.random.default_rng(seed).permutation(len(sizes))
    filled = fill(queue, sizes, list(wanted.values()))
    parts, counts = {}, {}
    for number, part in enumerate((*wanted, TRAIN)):
        parts[part] = examples.select(filled[component] == number)
        counts[part] = int(sizes[filled == number].sum())
        if not counts[part] and wanted.get(part, 1):
            raise DataError(
                f"the split leaves no value of '{by}' for {part}: {sizes.max()} of {n} "
                "hang together by items that they share, and no split may part them; set "
                "data.split.by: item"
            )
    found = ", ".join(f"{count:,} for {part}" for part, count in counts.items())
    return parts, (
        f"Split by '{by}' ({found}), so that what is measured is how well the model does on values "
        "of it that it has never seen."
    )
