"""A tower's first weights: of the training items alone, or of what another run has learnt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from msiam.errors import ModelError, RecipeError, one_of
from msiam.paths import resolve
from msiam.towers.follower import Follower
from msiam.towers.model import Model
from msiam.towers.tower import Tower


def fit_towers(model: Model, items: Mapping[str, Iterable[Any]]) -> None:
    """Let each tower without weights learn what it needs, those that follow others last.

    Args:
        items: by tower, the training items.

    Raises:
        RecipeError: ``init`` names no model, or one whose tower is another.
    """
    for name in sorted(model.towers, key=lambda name: isinstance(model.tower(name), Follower)):
        tower = model.tower(name)
        if tower.ready:
            continue
        if tower.options.init is None or isinstance(tower, Follower):
            tower.fit(items[name])
        else:
            begin_as(tower, tower.options.init, name)


def begin_as(tower: Tower, folder: str, name: str) -> None:
    """Give a tower the encoder of the tower ``name`` of a run or a model; its head is new.

    Raises:
        RecipeError: there is no model, it has no such tower, or one with another encoder.
    """
    key = f"towers.{name}.init"
    place = resolve(folder)
    try:
        other = Model.load(place / "model" if (place / "model").is_dir() else place)
    except ModelError as error:
        raise RecipeError(f"{key}: {error}; train that first, or leave init out") from error
    if name not in other.towers:
        raise RecipeError(
            f"{key}: {folder} has no tower of this name, '{name}'; {one_of(name, other.towers)}"
        )
    theirs = other.tower(name)
    if theirs.options.encoder != tower.options.encoder:
        raise RecipeError(
            f"{key}: in {folder} the tower '{name}' is {theirs.options.encoder}, and here it is "
            f"{tower.options.encoder}; take one encoder for both, or leave init out"
        )
    try:
        tower.take_encoder(theirs)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise RecipeError(
            f"{key}: the weights of {folder} do not fit; give towers.{name} the same options, or "
            f"leave init out ({reason[:200]})"
        ) from error
