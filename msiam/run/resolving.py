"""The recipe that a training is asked for, and the one that it says every option of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msiam.errors import RecipeError
from msiam.evaluation.evaluator import Evaluator
from msiam.losses.base import WeightedSum
from msiam.recipe import GIVEN, LossTerm, Recipe
from msiam.registry.options import Term
from msiam.towers.model import Model


def asked(
    what: Any,
    folder: Any,
    said: Mapping[str, Any],
    loss: Any,
    settings: dict[str, Any],
    table_given: bool,
    test_given: bool,
) -> Recipe:
    """The recipe that ``train`` was asked for, whichever way it was said.

    Args:
        said: label, score and classes, of which at most one is not None.
    """
    said = {key: value for key, value in said.items() if value is not None}
    given = ({"table": GIVEN} if table_given else {}) | ({"test": GIVEN} if test_given else {})
    if isinstance(what, Model):
        label = said.get("label", {})
        if not isinstance(label, Mapping):
            raise RecipeError(
                f'label: found {label!r}; give {{"column": ..., "same": the value that means same}}'
            )
        content = {**what.describe(), "data": {"table": GIVEN, **said, **given}, "train": settings}
        content |= {"name": Path(folder).name} if folder else {}
        content |= {"loss": loss} if loss else {}
        return Recipe.parse(content, "train")
    if said or loss or settings:
        raise RecipeError(
            "train: label, score, classes, loss and settings go with a Model; a recipe has them "
            "itself"
        )
    recipe = (
        what
        if isinstance(what, Recipe)
        else (Recipe.parse(dict(what)) if isinstance(what, Mapping) else Recipe.read(what))
    )
    return recipe.model_copy(update={"data": recipe.data.model_copy(update=given)})


def resolved(
    recipe: Recipe, model: Model, loss: WeightedSum, evaluators: dict[str, Evaluator]
) -> Recipe:
    """The recipe with every option said, since the defaults of another version may be others."""
    losses = [
        LossTerm(name=term.name, weight=term.weight, **options.model_dump(mode="json"))
        for term, options in zip(recipe.loss, loss.options, strict=True)
    ]
    judges = [
        Term(name=name, **evaluator.options.model_dump(mode="json"))
        for name, evaluator in evaluators.items()
    ]
    towers = model.describe()["towers"]
    return recipe.model_copy(update={"towers": towers, "loss": losses, "evaluate": judges})
