"""Small changes of an encoder's input: how large they may be, and how to step within that."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from msiam.errors import RecipeError
from msiam.recipe import Norm
from msiam.towers.encoder import Continuous
from msiam.towers.tower import Tower


@dataclass(frozen=True)
class Ball:
    """The points x' of [low, high] with ‖x' − x‖ ≤ ε, item by item, around a batch x (B, …).

    Attributes:
        norm: ``linf``, no value changes by more than ε; ``l2``, the root of the sum of squared
            changes is at most ε.
        epsilon: ε, in the units of the input: for pictures, 4 is the field's 4/255.
        centre: x, as floats.
        low, high: the ends of what the input may be.
    """

    norm: Norm
    epsilon: float
    centre: Tensor
    low: float
    high: float

    def project(self, points: Tensor) -> Tensor:
        """The points of the ball nearest to these; of ``l2`` up to the ends of the range."""
        change = points - self.centre
        if self.norm == "linf":
            change = change.clamp(-self.epsilon, self.epsilon)
        else:
            change = change * (self.epsilon / _lengths(change).clamp_min(_TINY)).clamp_max(1)
        return (self.centre + change).clamp(self.low, self.high)

    def ascend(self, points: Tensor, gradient: Tensor, size: float) -> Tensor:
        """The step, no longer than ``size``, that raises most to first order; back in the ball."""
        if self.norm == "linf":
            return self.project(points + size * gradient.sign())
        # A gradient of 1e-20 has a direction still, but its squares are 0.
        scaled = gradient / _largest(gradient).clamp_min(_TINY)
        return self.project(points + size * scaled / _lengths(scaled).clamp_min(_TINY))

    def step(self, steps: int) -> float:
        """2.5 ε / steps: so many of these get from any point of the ball to any other."""
        return 2.5 * self.epsilon / steps

    def draw(self, generator: torch.Generator) -> Tensor:
        """A point of the ball at random, uniformly but for what the range cuts off."""
        shape, device = self.centre.shape, self.centre.device
        if self.norm == "linf":
            change = 2 * torch.rand(shape, generator=generator).to(device) - 1
        else:
            change = torch.randn(shape, generator=generator).to(device)
            radius = torch.rand(len(change), generator=generator).to(device)
            radius = radius ** (1 / math.prod(shape[1:]))
            change *= by_item(radius, change) / _lengths(change).clamp_min(_TINY)
        return self.project(self.centre + self.epsilon * change)


_TINY = 1e-30


def by_item(values: Tensor, like: Tensor) -> Tensor:
    """(B,) as (B, 1, …)."""
    return values.reshape(-1, *[1] * (like.dim() - 1))


def _lengths(change: Tensor) -> Tensor:
    return by_item(change.flatten(1).norm(dim=1), change)


def _largest(change: Tensor) -> Tensor:
    return by_item(change.flatten(1).abs().amax(dim=1), change)


def continuous_input(tower: Tower, where: str) -> Continuous:
    """What of a tower's batch may be changed a little.

    Raises:
        RecipeError: nothing; ``where`` begins the message.
    """
    found = tower.encoder.continuous
    if found is None:
        frozen = ", which is frozen," if tower.options.freeze is True else ""
        raise RecipeError(
            f"{where}: encoder {tower.options.encoder}{frozen} has no input that can be changed a "
            "little (Encoder.continuous); those of pictures that are not frozen have"
        )
    return found
