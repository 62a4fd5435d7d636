"""The layers of a network for pictures: its stages or blocks, behind the stem."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

#: What networks call that which holds their blocks.
HOLDERS = ("features", "trunk_output", "blocks", "encoder.layers", "layers")


def layers_of(network: nn.Module) -> Sequence[nn.Module]:
    """Blocks in the order in which they run; in a network without any, its convolutions."""
    modules = dict(network.named_modules())
    holder = next((modules[name] for name in HOLDERS if name in modules), network)
    inside = [part for part in holder.children() if any(w.dim() > 1 for w in part.parameters())]
    return [part for part in inside if any(True for _ in part.children())] or inside
