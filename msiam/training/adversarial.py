"""Adversarial training: each step learns from inputs that were changed to raise its loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from msiam.errors import RecipeError
from msiam.recipe import AdversarialTerm, Train
from msiam.towers.encoder import Batch, Continuous
from msiam.towers.model import Model
from msiam.towers.perturbing import Ball, continuous_input
from msiam.training.large_batches import random_as_before, statistics_kept

#: By tower, its batches of a step.
Batches = Mapping[str, Sequence[Batch]]


def check_adversary(model: Model, settings: Train) -> None:
    """Whether ``train.adversarial`` can be had, if it is asked for.

    Raises:
        RecipeError: no tower has a continuous input; ``train.chunk`` is given.
    """
    if settings.adversarial is None:
        return
    if settings.chunk is not None:
        raise RecipeError(
            f"train.adversarial: found with train.chunk {settings.chunk}, in whose two passes an "
            "input has no gradient; leave one of them out"
        )
    if all(model.tower(name).encoder.continuous is None for name in model.leaders):
        for name in model.leaders:
            continuous_input(model.tower(name), f"train.adversarial: tower {name}")


class Adversary:
    """Finds max over ‖δ‖ ≤ ε of the loss of a step, from x to x + δ, by projected ascent.

    Training on what it finds is the minimax of Madry et al. (2018), for any loss: of pairs, of
    triplets, of a whole batch. All items of a step change at once, each within its own ball, so
    that anchors and candidates move apart or together as the loss has it. It starts at a random
    point of the ball and takes ``steps`` steps of 2.5 ε / steps.

    The passes are those of the step itself: the same augmentation, dropout and negatives, and batch
    norms by the batch. They leave running statistics as they were. Towers without a continuous
    input (``Encoder.continuous``) and those that learn nothing are given what they always are.

    Paper: Towards Deep Learning Models Resistant to Adversarial Attacks, ICLR 2018.
    """

    def __init__(self, model: Model, settings: AdversarialTerm) -> None:
        self.model, self.settings = model, settings
        self.inputs: dict[str, Continuous] = {
            name: found
            for name in model.leaders
            if (found := model.tower(name).encoder.continuous) is not None
        }

    def __call__(self, batches: Batches, loss: Callable[[Batches], Tensor]) -> Batches:
        """The step's batches, changed; ``loss`` is what it makes of batches."""
        settings = self.settings
        balls = {
            name: Ball(
                settings.norm,
                settings.epsilon,
                batches[name][0][continuous.tensor].float(),
                continuous.low,
                continuous.high,
            )
            for name, continuous in self.inputs.items()
        }
        points = {name: ball.draw(torch.default_generator) for name, ball in balls.items()}
        device = next(iter(points.values())).device
        with statistics_kept(self.model):
            for _ in range(settings.steps):
                asked = [point.requires_grad_(True) for point in points.values()]
                with torch.enable_grad(), random_as_before(device):
                    value = loss(self._with(batches, points))
                    gradients = torch.autograd.grad(value, asked)
                points = {
                    name: balls[name].ascend(
                        point.detach(), gradient, balls[name].step(settings.steps)
                    )
                    for (name, point), gradient in zip(points.items(), gradients, strict=True)
                }
        return self._with(batches, points)

    def _with(self, batches: Batches, points: Mapping[str, Tensor]) -> Batches:
        changed = dict(batches)
        for name, point in points.items():
            changed[name] = [{**batches[name][0], self.inputs[name].tensor: point}]
        return changed
