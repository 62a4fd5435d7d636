"""Batches far above what fits: items are embedded chunk by chunk, and the loss sees them all.

Gao et al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup" (2021).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from msiam.towers.encoder import Batch


def embed_chunks(tower: nn.Module, chunks: Sequence[Batch]) -> Tensor:
    """Chunks of n items to their embeddings (n, dim), with the activations of one chunk in memory.

    The first pass embeds without gradient. Backward embeds each chunk once more, dropout and
    augmentation as they were, and goes on from the gradient of its embeddings to the parameters.
    That gradient is the one of a single pass over the same chunks, at the price of a second
    forward. A single chunk goes the plain way.

    A batch norm sees chunks, as it does when gradients are accumulated: each is normalised by
    itself and moves the running statistics once, in the first pass.

    The randomness that is replayed is torch's, on the CPU and on the current device. To autograd
    all of this is one operation on the tower's parameters, so each of them has its gradient once
    a step, wherever else it is used and whoever waits for it (DDP).
    """
    if len(chunks) == 1:
        return tower(chunks[0])
    parameters = [parameter for parameter in tower.parameters() if parameter.requires_grad]
    return _TwoPasses.apply(tower, chunks, *parameters)


class _TwoPasses(torch.autograd.Function):
    """All chunks through a tower; in backward once more, with gradient."""

    @staticmethod
    def forward(ctx: Any, tower: nn.Module, chunks: Sequence[Batch], *parameters: Tensor) -> Tensor:
        device = next(iter(chunks[0].values())).device
        ctx.tower, ctx.chunks = tower, chunks
        ctx.save_for_backward(*parameters)  # whoever changes them before backward is told
        ctx.autocast = {
            "device_type": device.type,
            "enabled": torch.is_autocast_enabled(device.type),
            "dtype": torch.get_autocast_dtype(device.type),
            "cache_enabled": False,  # it may keep weights that were cast without gradient
        }
        ctx.random = []
        embeddings = []
        with torch.autocast(**ctx.autocast):
            for chunk in chunks:
                ctx.random.append(_random_state(device))
                embeddings.append(tower(chunk))
        return torch.cat(embeddings)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        parameters = ctx.saved_tensors
        sums: list[Tensor | None] = [None] * len(parameters)
        start = 0
        with random_as_before(gradient.device), statistics_kept(ctx.tower):
            for chunk, state in zip(ctx.chunks, ctx.random, strict=True):
                _set_random_state(gradient.device, state)
                with torch.enable_grad(), torch.autocast(**ctx.autocast):
                    embeddings = ctx.tower(chunk)
                stop = start + len(embeddings)
                part = gradient[start:stop].to(embeddings.dtype)
                found = torch.autograd.grad(embeddings, parameters, part, allow_unused=True)
                for place, one in enumerate(found):
                    if one is not None:
                        so_far = sums[place]
                        # What autograd returns may be another's memory; a copy may be added to.
                        sums[place] = one.clone() if so_far is None else so_far.add_(one)
                start = stop
        return None, None, *sums


def _random_state(device: torch.device) -> list[Tensor]:
    """The state of the CPU's generator, and of the current device's."""
    states = [torch.get_rng_state()]
    if device.type != "cpu":
        states.append(torch.get_device_module(device).get_rng_state())
    return states


def _set_random_state(device: torch.device, states: Sequence[Tensor]) -> None:
    torch.set_rng_state(states[0])
    for state in states[1:]:
        torch.get_device_module(device).set_rng_state(state)


@contextlib.contextmanager
def random_as_before(device: torch.device) -> Iterator[None]:
    """What is drawn inside is as if it had never been drawn."""
    before = _random_state(device)
    try:
        yield
    finally:
        _set_random_state(device, before)


@contextlib.contextmanager
def statistics_kept(module: nn.Module) -> Iterator[None]:
    """Batch norms that train normalise inside as ever, and leave their running statistics."""
    moving: list[Any] = [
        norm
        for norm in module.modules()
        if norm.training and getattr(norm, "track_running_stats", False)
    ]
    before = [(norm.momentum, norm.num_batches_tracked.clone()) for norm in moving]
    for norm in moving:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, (momentum, batches) in zip(moving, before, strict=True):
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(batches)
