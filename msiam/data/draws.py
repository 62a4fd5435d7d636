"""Drawn columns: others of an item's class, and items of other classes, anew in each batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from msiam.data.examples import Examples
from msiam.errors import DataError, RecipeError
from msiam.recipe import Data
from msiam.towers.model import Model


class Draws:
    """Rows of a first column to rows of several.

    Column by column, a row gets another item of its own class, or an item of a class that the row
    does not have yet, so that two such columns hold two classes. Each is drawn at random, every
    item alike; where a class has no other item, its only one is drawn again. What is drawn depends
    on the seed and on which rows are in the batch, in which order: a training that resumes draws
    what it would have drawn, and hardly ever is the same drawn twice.

    Args:
        examples: rows with classes. Items of their first column are drawn for, and drawn from.
        how: column -> "same" or "other", in the model's order.

    Raises:
        DataError: there are not classes enough for all of a row's to differ.
    """

    def __init__(self, examples: Examples, how: Mapping[str, str], seed: int = 0) -> None:
        self.how, self.seed = how, seed
        column, items = next(iter(examples.columns.items()))
        self.items, rows = np.unique(items, return_index=True)
        groups = examples.groups[column][rows]
        self.order = np.argsort(groups, kind="stable")  # the items class by class
        self.place = np.argsort(self.order)  # where each item is in that order
        self.names, self.classes, self.sizes = np.unique(
            groups[self.order], return_inverse=True, return_counts=True
        )
        self.starts = self.sizes.cumsum() - self.sizes
        needed = 1 + list(how.values()).count("other")
        if len(self.names) < needed:
            raise DataError(
                f"data.draw: a row takes items of {needed} classes, and the training rows have "
                f"{len(self.names)}; give more classes, or draw fewer columns of others"
            )

    def __call__(self, step: Examples, positions: Sequence[int]) -> Examples:
        """The rows of a batch with the columns that are drawn for them."""
        rng = np.random.default_rng([self.seed, *positions])
        columns, groups = dict(step.columns), dict(step.groups)
        items = next(iter(columns.values()))
        own = self.place[np.searchsorted(self.items, items)]
        taken = self.classes[own][:, None]
        for column, how in self.how.items():
            drawn = self._same(own, rng) if how == "same" else self._other(taken, rng)
            if how == "other":
                taken = np.concatenate([taken, self.classes[drawn][:, None]], axis=1)
            columns[column] = self.items[self.order[drawn]]
            groups[column] = self.names[self.classes[drawn]]
        return replace(step, columns=columns, groups=groups)

    def _same(self, own: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Places of other items of the classes of those at ``own``, (B,)."""
        size, start = self.sizes[self.classes[own]], self.starts[self.classes[own]]
        drawn = start + rng.integers(np.maximum(size - 1, 1))
        return drawn + ((drawn >= own) & (size > 1))  # its own place is stepped over

    def _other(self, taken: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Places of items of none of the classes ``taken``, (B, classes)."""
        taken = np.sort(taken, axis=1)
        drawn = rng.integers(len(self.items) - self.sizes[taken].sum(axis=1))
        for one in taken.T:  # each class is a stretch, stepped over from the first to the last
            drawn = drawn + np.where(drawn >= self.starts[one], self.sizes[one], 0)
        return drawn


def draws_of(data: Data, examples: Examples, seed: int) -> Draws | None:
    """What draws the columns that the examples lack, if any."""
    how = {column: how for column, how in data.draw.items() if column not in examples.columns}
    return Draws(examples, how, seed) if how else None


def check_draws(data: Data, model: Model) -> None:
    """Whether each drawn column goes through a tower that reads what is drawn.

    Raises:
        RecipeError: it does not; or a view goes through a tower that has another one, where both
            would be one embedding of one item.
    """
    if not data.draw:
        return
    first = next(iter(model.columns))
    views = {model.columns[first]: first}
    for column, how in data.draw.items():
        tower = model.columns[column]
        if model.numbering[column] != model.numbering[first]:
            raise RecipeError(
                f"data.draw.{column}: goes through tower '{tower}', and what is drawn are items of "
                f"'{first}': give it that one's tower '{model.columns[first]}', or one that "
                "follows it"
            )
        if how == "itself" and views.setdefault(tower, column) != column:
            raise RecipeError(
                f"data.draw.{column}: found 'itself', but '{views[tower]}' goes through tower "
                f"'{tower}' as well, which embeds an item once a step; give it a tower that "
                f"follows: towers: {{{column}: {{follows: {tower}}}}}"
            )
