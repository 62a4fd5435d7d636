"""Variants: what an encoder makes of an item that is another thing, of a class of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from msiam.data.examples import Examples
from msiam.data.items import Items
from msiam.errors import RecipeError
from msiam.towers.model import Model


def with_variants(examples: Examples, model: Model, items: Mapping[str, Items]) -> Examples:
    """Each row once for each variant of its item (``Encoder.variants``), classes likewise.

    Of n items, variant v of item i has the number i + v · n, by which a batch finds both again; of
    V variants, that of class c has the number c · V + v.

    Raises:
        RecipeError: there are variants, and not one column alone with classes, or its encoder is
            frozen.
    """
    versions = {tower: encoder.variants for tower, encoder in model.encoders.items()}
    tower = max(versions, key=lambda name: versions[name])
    count = versions[tower]
    if count == 1:
        return examples
    fault = ""
    if len(examples.columns) > 1 or not examples.classed or examples.claims is not None:
        fault = "which takes one column with data.classes, and no data.label"
    elif model.tower(tower).options.freeze:
        fault = "which a frozen encoder cannot learn from"
    if fault:
        raise RecipeError(
            f"towers.{tower}: makes further classes of its items, {fault}; switch that option off"
        )
    column = next(iter(examples.columns))
    version = np.repeat(np.arange(count), len(examples))
    whole = examples.select(np.tile(np.arange(len(examples)), count))
    return replace(
        whole,
        columns={column: whole.columns[column] + version * len(items[tower])},
        groups={column: whole.groups[column] * count + version},
    )
