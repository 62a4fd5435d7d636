"""Batches of rows of like length, for encoders that pad: texts on a GPU in float32, an LSTM."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from msiam.data.examples import Examples, Towers
from msiam.data.items import Items
from msiam.data.samplers import Shuffled
from msiam.errors import DataError
from msiam.towers.encoder import Encoder

POOL = 16  # batches whose rows are sorted together


class ByLength(Shuffled):
    """All rows once an epoch, in batches of like length, which come in any order.

    Rows are shuffled, and of each ``POOL`` batches in a row sorted by length. So who meets whom
    changes with every epoch, and a negative is as any other row of that length: what tells it
    from the positive is never that it is longer. What is learnt changes all the same, since a short
    text meets no long one.

    Args:
        lengths: (n,) of each row, as ``row_lengths`` has them.
    """

    def __init__(
        self, lengths: np.ndarray, batch_size: int, seed: int = 0, share: tuple[int, int] = (0, 1)
    ) -> None:
        super().__init__(len(lengths), batch_size, seed, share)
        self.lengths = lengths

    def batches(self, random: np.random.Generator) -> list[np.ndarray]:
        order = random.permutation(len(self.rows))
        pool = np.arange(len(order)) // (POOL * self.batch_size)
        found = self.cut(order[np.lexsort((self.lengths[order], pool))])
        # In a batch in any order too, lest the last process has the longest rows of each.
        return [random.permutation(found[number]) for number in random.permutation(len(found))]


def row_lengths(
    examples: Examples,
    towers: Towers,
    items: Mapping[str, Items],
    encoders: Mapping[str, Encoder],
) -> np.ndarray:
    """How long each row is: what its longest item costs the encoder that pads it, (n,).

    Raises:
        DataError: all of them cost the same.
    """
    costs = {
        name: np.array([encoder.cost(feature) for feature in items[name].features])
        for name, encoder in encoders.items()
    }
    lengths = np.zeros(len(examples), np.int64)
    for column, numbers in examples.columns.items():
        of_items = costs[towers[column]]
        np.maximum(lengths, of_items[numbers % len(of_items)], out=lengths)  # or of a variant
    if len(lengths) and (lengths == lengths[0]).all():
        raise DataError(
            "train.sampler: by_length: all items are of one length to their encoders; take shuffled"
        )
    return lengths
