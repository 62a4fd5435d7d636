"""A tower that follows another by moving average: momentum contrast (He et al., 2019)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pydantic
import torch
from torch import Tensor

from msiam.errors import ModelError, RecipeError, one_of
from msiam.registry.options import Options, parse_options
from msiam.towers.encoder import Batch
from msiam.towers.tower import Tower


class FollowerOptions(Options):
    follows: str = pydantic.Field(description="the tower that it is a copy of")
    momentum: float = pydantic.Field(
        0.999, ge=0, lt=1, description="how much of itself it keeps at each step"
    )


class Follower(Tower):
    """A copy of another tower, encoder and head, that moves after it: θ ← m·θ + (1 − m)·θ'.

    It moves once after each step of the optimiser and learns nothing itself: it embeds without
    gradient. In training it embeds as its leader does, with augmentation and dropout, so that two
    views of an item differ, and with batch norms that go by its own batch. Their running statistics
    are its own as well, for they describe what its own weights make of its batches; only parameters
    follow.

    Args:
        where: its place in a recipe, for messages.
        leader: the tower that it follows. It is no part of this module.
        following: which that is in its model, and how closely.

    Paper: Momentum Contrast for Unsupervised Visual Representation Learning, CVPR 2020.
    """

    Options: ClassVar[type[Options]] = FollowerOptions

    def __init__(self, where: str, leader: Tower, following: FollowerOptions) -> None:
        keys = leader.describe()
        for own in ("learning_rate", "init"):
            keys.pop(own, None)
        super().__init__(keys.pop("encoder"), where, **keys)
        self.following = following
        self._leader = (leader,)  # so that torch takes it for no part of this module

    @property
    def leader(self) -> Tower:
        return self._leader[0]

    def fit(self, items: Iterable[Any]) -> None:
        """Become a copy of the leader, which has learnt from the items.

        Raises:
            ModelError: it has not yet.
        """
        if not self.leader.ready:
            name = self.following.follows
            raise ModelError(f"{self._where}: follows {name}, which has no weights yet; fit {name}")
        self.take_encoder(self.leader)
        self.load_state_dict(self.leader.state_dict())

    def restore(self, folder: Path) -> None:
        super().restore(folder)
        self.requires_grad_(False)

    @torch.no_grad()
    def forward(self, batch: Batch) -> Tensor:
        """A batch of B items to their embeddings, (B, dim), without gradient."""
        return super().forward(batch)

    @torch.no_grad()
    def step(self) -> None:
        """Move after the leader, once."""
        share = 1 - self.following.momentum
        for own, theirs in zip(self.parameters(), self.leader.parameters(), strict=True):
            own.lerp_(theirs, share)

    @property
    def summary(self) -> str:
        return f"follows {self.following.follows} at momentum {self.following.momentum:g}"

    def describe(self) -> dict[str, Any]:
        return self.following.model_dump()


def follower(where: str, keys: Any, leaders: Mapping[str, Tower]) -> Follower:
    """A tower by its keys in a recipe, ``follows`` and ``momentum``.

    Args:
        leaders: by name, the towers that follow no other.

    Raises:
        RecipeError: it follows none of these, there is another key, or the momentum is none.
    """
    known = FollowerOptions.model_fields
    for key in keys:
        if key not in known:
            raise RecipeError(
                f"{where}.{key}: no such key of a tower that follows another and is a copy of it; "
                f"{one_of(key, known)}"
            )
    following: FollowerOptions = parse_options(Follower, keys, where)
    if following.follows not in leaders:
        raise RecipeError(
            f"{where}.follows: found '{following.follows}'; it must be a tower of the model that "
            f"follows no other itself; {one_of(following.follows, leaders)}"
        )
    return Follower(where, leaders[following.follows], following)
