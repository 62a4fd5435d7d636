"""The layers of the towers compiled, or their activations computed twice instead of kept."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from msiam.errors import RecipeError
from msiam.recipe import Train
from msiam.towers.model import Model
from msiam.training.large_batches import statistics_kept


def check_layers(model: Model, settings: Train) -> list[str]:
    """Whether ``compile`` and ``gradient_checkpointing`` can be had.

    Returns:
        A line for each tower that learns and has no layers, and so trains without them.

    Raises:
        RecipeError: no tower that learns has layers; PyTorch cannot compile on this machine.
    """
    wanted = [key for key in ("compile", "gradient_checkpointing") if getattr(settings, key)]
    if not wanted:
        return []
    learning = _learning(model)
    without = [name for name in learning if not model.tower(name).encoder.layers()]
    keys = " and ".join(f"train.{key}" for key in wanted)
    lines = [
        f"tower {name}: its encoder {model.tower(name).options.encoder} names no layers; it trains "
        f"without {keys}"
        for name in without
    ]
    if len(without) == len(learning):
        names = ", ".join(model.tower(name).options.encoder for name in learning) or "none learns"
        raise RecipeError(f"{keys}: no encoder has layers to apply it to ({names}); leave it out")
    if settings.compile:
        _check_compiler()
    return lines


@contextlib.contextmanager
def equipped(model: Model, settings: Train) -> Iterator[None]:
    """Inside, the layers of each encoder that learns run as the recipe's switches have it.

    Layer by layer, since what is between them differs from batch to batch: which texts are packed
    together, and how pictures are varied. Layers that are alike are compiled once, for batches of
    any size. In evaluation they run as ever, and names of weights stay as they are.

    Recomputed activations: Chen et al., "Training Deep Nets with Sublinear Memory Cost" (2016).
    """
    changed: list[Any] = []
    try:
        if settings.compile or settings.gradient_checkpointing:
            for name in _learning(model):
                for layer in model.tower(name).encoder.layers():
                    if any(parameter.requires_grad for parameter in layer.parameters()):
                        layer.forward = _forward(layer, settings)
                        changed.append(layer)
        yield
    finally:
        for layer in changed:
            del layer.forward


def _learning(model: Model) -> list[str]:
    """The towers whose encoders learn."""
    encoders = model.encoders.items()
    return [
        name for name, encoder in encoders if any(p.requires_grad for p in encoder.parameters())
    ]


def _forward(layer: nn.Module, settings: Train) -> Callable[..., Any]:
    plain = layer.forward
    run = torch.compile(plain, dynamic=True) if settings.compile else plain

    def contexts() -> tuple[Any, Any]:
        """Around the first pass, and around the second, in which batch norms have learnt."""
        return contextlib.nullcontext(), statistics_kept(layer)

    @functools.wraps(plain)
    def forward(*args: Any, **kwargs: Any) -> Any:
        if not layer.training:
            return plain(*args, **kwargs)
        if settings.gradient_checkpointing and torch.is_grad_enabled():
            return checkpoint(run, *args, use_reentrant=False, context_fn=contexts, **kwargs)
        return run(*args, **kwargs)

    return forward


def _check_compiler() -> None:
    """Compile the smallest program there is, as it will be needed: with its gradient."""
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else "cpu"
    ones = torch.ones(2, device=device, requires_grad=True)
    try:
        torch.compile(_double, dynamic=True)(ones).sum().backward()
    except Exception as error:  # the compiler's own, of which there are many
        reason = " ".join(str(error).split())
        raise RecipeError(
            "train.compile: PyTorch cannot compile on this machine, which on a CPU takes a C++ "
            f"compiler such as g++; install it, or leave train.compile out ({reason[:160]})"
        ) from error


def _double(x: torch.Tensor) -> torch.Tensor:
    return 2 * x
