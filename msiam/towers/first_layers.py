"""The first layers of an encoder frozen, and the rest left to learn."""

from __future__ import annotations

from torch import nn

from msiam.errors import RecipeError
from msiam.towers.encoder import Encoder


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
    place = {module: number for number, module in enumerate(encoder.modules())}
    if count < len(layers):
        end = place[layers[count]]
    else:
        end = 1 + max(place[module] for module in layers[-1].modules())
    frozen = []
    for module in list(place)[:end]:
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(False)
        if all(place[part] < end for part in module.modules()):  # else it holds a part that learns
            frozen.append(module)
    return frozen
