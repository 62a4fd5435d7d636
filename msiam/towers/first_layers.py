"""The first layers of an encoder frozen, and the rest left to learn.

What frozen layers make of an item is always the same. Where the encoder hands it out, it can be
computed once (``kept_layers``), and ``forward`` goes on from there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from msiam.errors import RecipeError
from msiam.towers.encoder import Batch, Encoder

#: Of a batch of states: all of them along their first dimension, and how long each one is there.
STATES, SIZES = "states of the first layers", "sizes"


class States(np.ndarray):
    """What the first layers made of one item, (n, …). It stands in the place of its feature."""


def freeze_first(encoder: Encoder, count: int, name: str, where: str) -> list[nn.Module]:
    """Freeze the first ``count`` layers, and all that an encoder registers before the next one.

    Embeddings, a stem, and a norm between two layers belong to what is before. Behind the last
    layer nothing is frozen.

    Args:
        name: the encoder's, for messages.
        where: the key that asks for it, for messages.

    Returns:
        The modules that are to evaluate even in training: they drop nothing out, and their batch
        norms go by the statistics that they have and do not move them.

    Raises:
        RecipeError: the encoder has no layers, or fewer.

    How many layers of a pretrained network to keep: Yosinski et al., "How transferable are
    features in deep neural networks?" (2014).
    """
    layers = encoder.layers()
    if count > len(layers):
        word = "layer" if len(layers) == 1 else "layers"
        has = f"has {len(layers)} {word}" if layers else "names no layers"
        most = f"at most {len(layers)}, or " if layers else ""
        raise RecipeError(
            f"{where}: found {count}, and {name} {has}; give {most}true for all of it"
        )
    before = _before(encoder, count)
    frozen = []
    for module in before:
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(False)
        if set(before).issuperset(module.modules()):  # else it holds a part that learns
            frozen.append(module)
    return frozen


def _before(encoder: Encoder, count: int) -> list[nn.Module]:
    """The modules that are registered before the first layer that learns."""
    layers, modules = encoder.layers(), list(encoder.modules())
    place = {module: number for number, module in enumerate(modules)}
    if count < len(layers):
        return modules[: place[layers[count]]]
    return modules[: 1 + max(place[module] for module in layers[-1].modules())]


def first_fingerprint(encoder: Encoder, count: int) -> str:
    """Changes whenever what the first ``count`` layers make of an item may change.

    It is the encoder's own, of which no weight or statistic behind these layers is a part.
    """
    before = set(_before(encoder, count))
    names = {
        f"{prefix}.{name}" if prefix else name
        for prefix, module in encoder.named_modules()
        if module in before
        for name in (*module._parameters, *module._buffers)
    }

    def leave_out(_: nn.Module, state: dict[str, Any], *__: Any) -> None:
        for name in state.keys() - names:
            del state[name]

    hook = encoder.register_state_dict_post_hook(leave_out)
    try:
        return f"first {count} {encoder.fingerprint()} {encoder.features_fingerprint()}"
    finally:
        hook.remove()


def collate(encoder: Encoder, features: Sequence[np.ndarray]) -> Batch:
    """Features to a batch as the encoder has it; or states, to one that ``run_rest`` takes."""
    if not features or not isinstance(features[0], States):
        return encoder.collate(features)
    joined = np.concatenate(features)
    sizes = torch.tensor([len(one) for one in features])
    return {STATES: torch.from_numpy(joined.view(np.ndarray)), SIZES: sizes}


class _Reached(Exception):
    """The last layer that was to run has run."""

    def __init__(self, output: Any) -> None:
        self.output = output


def run_first(encoder: Encoder, batch: Batch, count: int) -> Sequence[Tensor] | None:
    """What the first ``count`` layers make of each item; None: the encoder does not hand it out."""
    last = encoder.layers()[count - 1]
    plain = last.forward

    def stop(*given: Any, **named: Any) -> Any:
        raise _Reached(plain(*given, **named))

    try:
        with _instead({last: stop}):
            encoder(batch)
    except _Reached as reached:
        output = reached.output
        return encoder.split_states(output, batch) if isinstance(output, Tensor) else None
    raise RuntimeError(f"{type(encoder).__name__} does not run its layer {count}")


def run_rest(encoder: Encoder, batch: Batch, count: int) -> Tensor:
    """From a batch of states to vectors (B, d): the layers that learn, and all that is behind."""
    weights = next(encoder.parameters(), batch[STATES])
    sizes = batch[SIZES].tolist()
    stand_in, states = encoder.join_states(batch[STATES].to(weights.dtype).split(sizes))

    def hand_on(*given: Any, **named: Any) -> Any:
        return [*given, *named.values()][0]

    def hand_out(*given: Any, **named: Any) -> Tensor:
        if isinstance(hand_on(*given, **named), fx.Proxy):  # one batch's states are no constants
            raise TypeError("the states of a batch do not depend on what is before them")
        return states

    layers = encoder.layers()[:count]
    with _instead({**dict.fromkeys(layers, hand_on), layers[-1]: hand_out}):
        return encoder(stand_in)


@contextlib.contextmanager
def _instead(forwards: dict[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """Inside, some modules run as they are told to."""
    before = {module: vars(module).get("forward") for module in forwards}
    try:
        for module, forward in forwards.items():
            module.forward = forward
        yield
    finally:
        for module, own in before.items():
            del module.forward
            if own is not None:
                module.forward = own
