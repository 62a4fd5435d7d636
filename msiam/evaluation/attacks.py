"""Attacks on a continuous input: the worst points of a ball that FGSM and PGD find."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from msiam.towers.perturbing import Ball, by_item

#: Points (B, …) to what the attacker wants high, (B,).
Gain = Callable[[Tensor], Tensor]


@dataclass
class Worst:
    """The worst point seen of each item: points (B, …) and their gain (B,)."""

    points: Tensor
    gain: Tensor

    def see(self, points: Tensor, gain: Tensor) -> None:
        worse = gain > self.gain
        self.gain = torch.where(worse, gain, self.gain)
        self.points = torch.where(by_item(worse, points), points, self.points)

    def copy(self) -> Worst:
        return Worst(self.points, self.gain)  # ``see`` makes new tensors


def fgsm(gain: Gain, ball: Ball, worst: Worst) -> Worst:
    """One step of ε from the centre, up the gradient; what was seen before, if it is worse.

    Paper: Goodfellow, Shlens and Szegedy, Explaining and Harnessing Adversarial Examples, 2015.
    """
    found = worst.copy()
    _, gradient = _ascent(gain, ball.centre)
    points = ball.ascend(ball.centre, gradient, ball.epsilon)
    with torch.no_grad():
        found.see(points, gain(points))
    return found


def pgd(
    gain: Gain, ball: Ball, worst: Worst, steps: int, generator: torch.Generator | None = None
) -> Worst:
    """Projected gradient ascent from a random point of the ball; the worst of all points seen.

    Its steps are those of ``Ball.step``.

    Args:
        worst: what was seen before, as by FGSM, which is therefore never stronger.
        generator: of the first point, on the CPU; None: it is the centre.

    Paper: Madry, Makelov, Schmidt, Tsipras and Vladu, Towards Deep Learning Models Resistant to
    Adversarial Attacks, 2018.
    """
    found = worst.copy()
    points = ball.centre if generator is None else ball.draw(generator)
    for _ in range(steps):
        value, gradient = _ascent(gain, points)
        found.see(points, value)
        points = ball.ascend(points, gradient, ball.step(steps))
    with torch.no_grad():
        found.see(points, gain(points))
    return found


def _ascent(gain: Gain, points: Tensor) -> tuple[Tensor, Tensor]:
    """The gain (B,) at the points, and its gradient (B, …)."""
    points = points.detach().requires_grad_(True)
    with torch.enable_grad():
        value = gain(points)
        (gradient,) = torch.autograd.grad(value.sum(), points)
    return value.detach(), gradient
