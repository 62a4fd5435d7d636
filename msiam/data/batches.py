"""What a batch holds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from msiam.data.draws import Draws
from msiam.data.examples import Examples, Towers
from msiam.data.items import Items
from msiam.towers.encoder import Batch, Encoder
from msiam.towers.first_layers import collate


class Collator:
    """Row numbers to what a training step needs: each distinct item of the step once.

    Called with B positions in ``examples``, it returns a dict of

    - ``batches``: tower -> the encoder's batches of the step's distinct items, chunk by chunk;
    - ``index``: column -> int64 (B,), where among its tower's items each row's item is;
    - ``groups``: column -> int64 (B,), see ``Examples``;
    - ``same``: bool (B,), only for labelled pairs;
    - ``scores``: float32 (B,), only for scored rows;
    - ``rows``: int64 (B,), the rows' numbers in their table.

    Args:
        chunk: most items of a tower in one of its batches; None: all of them are in one.
        whole: frozen layers run in each step too, since what goes in is to be changed.
        draws: what makes the columns that ``examples`` lack.
    """

    def __init__(
        self,
        examples: Examples,
        towers: Towers,
        items: Mapping[str, Items],
        encoders: Mapping[str, Encoder],
        chunk: int | None = None,
        whole: bool = False,
        draws: Draws | None = None,
    ) -> None:
        self.examples = examples
        self.towers = towers
        self.items = items
        self.encoders = encoders
        self.chunk = chunk
        self.whole = whole
        self.draws = draws

    def __call__(self, positions: Sequence[int]) -> dict[str, Any]:
        step = self.examples.select(np.asarray(positions))
        if self.draws is not None:
            step = self.draws(step, positions)
        batches: dict[str, list[Batch]] = {}
        index: dict[str, Tensor] = {}
        for tower, encoder in self.encoders.items():
            columns = [column for column, name in self.towers.items() if name == tower]
            numbers = np.stack([step.columns[column] for column in columns])
            distinct, where = np.unique(numbers, return_inverse=True)
            features = [self._feature(tower, number) for number in distinct.tolist()]
            chunks = self._chunks(encoder, features)
            batches[tower] = [collate(encoder, [features[n] for n in chunk]) for chunk in chunks]
            place = np.argsort(np.concatenate(chunks))  # where each distinct item now is
            for column, places in zip(columns, place[where].reshape(numbers.shape), strict=True):
                index[column] = torch.from_numpy(places)
        batch = {
            "batches": batches,
            "index": index,
            "groups": {column: torch.from_numpy(g) for column, g in step.groups.items()},
            "rows": torch.from_numpy(step.rows),
        }
        if step.same is not None:
            batch["same"] = torch.from_numpy(step.same)
        if step.scores is not None:
            batch["scores"] = torch.from_numpy(step.scores)
        return batch

    def _feature(self, tower: str, number: int) -> np.ndarray:
        """The feature of an item, or of a variant of it; see ``with_variants``."""
        items = self.items[tower]
        variant, number = divmod(number, len(items))
        feature = (items.features if self.whole else items.inputs)[number]
        return self.encoders[tower].variant(feature, variant) if variant else feature

    def _chunks(self, encoder: Encoder, features: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The features' places by chunk: chunks of like size, in each one features of like length.

        The longest come first, so that memory that does not suffice shows at once.
        """
        if self.chunk is None or len(features) <= self.chunk:
            return [np.arange(len(features))]
        costs = np.array([encoder.cost(feature) for feature in features], dtype=np.int64)
        order = np.argsort(-costs, kind="stable")
        return np.array_split(order, math.ceil(len(features) / self.chunk))
