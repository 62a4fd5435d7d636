"""Pretrained weights from a file, loaded whole or refused in one line."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from msiam import errors

SUFFIXES = (".safetensors", ".pth", ".pt")


def read_state(path: Path) -> dict[str, Tensor]:
    """The state dict in a .safetensors, .pth or .pt file; of a pickle, tensors alone are read.

    Raises:
        ModelError: there is no such file, or it holds something else.
    """
    if not path.is_file():
        raise errors.ModelError(f"weights: no such file: {path}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's reader raises nearly anything on a broken file
        reason = str(error).split("\n")[0]
        raise errors.ModelError(f"weights: {path} is no state dict: {reason}") from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise errors.ModelError(
            f"weights: {path} is no state dict, which has a tensor under every name"
        )
    return state


def load_whole(network: nn.Module, state: dict[str, Tensor], source: object) -> None:
    """Load a state dict that has every weight of the network, in its shape, and no other.

    Raises:
        ModelError: it is another network's; names the weights that differ.
    """
    own = network.state_dict()
    # Files from before PyTorch 0.4.1, torchvision's among them, lack batch norm's counters.
    state = {n: t for n, t in own.items() if n.endswith(".num_batches_tracked")} | state
    differ = {
        "missing": sorted(own.keys() - state.keys()),
        "not its own": sorted(state.keys() - own.keys()),
        "of another shape": sorted(
            n for n in own.keys() & state.keys() if own[n].shape != state[n].shape
        ),
    }
    found = [f"{len(names)} {what} ({names[0]}, …)" for what, names in differ.items() if names]
    if found:
        raise errors.ModelError(
            f"weights: {source} holds another network's: of {len(own)} weights, {', '.join(found)}"
        )
    network.load_state_dict(state)
