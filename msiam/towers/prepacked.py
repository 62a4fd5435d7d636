"""Linear layers with weights laid out once for oneDNN, for a model that is only read from.

PyTorch's float32 ``linear`` on a CPU goes through MKL, which reaches less than half of what oneDNN
does with weights in its own layout. The operators are those to which ``torch.compile`` lowers a
frozen model, taken without half a minute of compiling.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import cache

import torch
from torch import Tensor, nn


@contextlib.contextmanager
def prepacked(module: nn.Module, dtype: torch.dtype = torch.float32) -> Iterator[None]:
    """Inside, the module's linear layers multiply with packed copies of their weights.

    Only on a CPU that can, and only layers whose weights are float32; the others stay as they are.
    Nothing may be trained meanwhile: neither weights nor gradients are followed.

    Args:
        dtype: what to multiply in, float32 or bfloat16. Sums are float32 either way.
    """
    changed = []
    try:
        for layer in module.modules():
            if type(layer) is nn.Linear and _fits(layer) and _works(dtype):
                layer.forward = _packed(layer, dtype)  # type: ignore[method-assign, assignment]
                changed.append(layer)
        yield
    finally:
        for layer in changed:
            del layer.forward


def _fits(layer: nn.Linear) -> bool:
    weight = layer.weight
    hooked = layer._forward_hooks or layer._forward_pre_hooks
    other = "forward" in vars(layer)  # already packed, or somebody else's
    return weight.device.type == "cpu" and weight.dtype == torch.float32 and not (hooked or other)


def _packed(layer: nn.Linear, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    ops = torch.ops.mkldnn
    weight = ops._reorder_linear_weight(layer.weight.detach().to(dtype).contiguous(), None)
    bias = None if layer.bias is None else layer.bias.detach().to(dtype)

    def forward(states: Tensor) -> Tensor:
        return ops._linear_pointwise(states.to(dtype), weight, bias, "none", [], "")

    return forward


@cache
def _works(dtype: torch.dtype) -> bool:
    """Whether this machine's PyTorch has these operators, and they give what ``linear`` does."""
    layer = nn.Linear(48, 32)
    states = torch.linspace(-1, 1, 5 * 48).view(5, 48)
    try:
        with torch.no_grad():
            found = _packed(layer, dtype)(states).float()
            return torch.allclose(
                found, layer(states), atol=1e-5 if dtype == torch.float32 else 0.1
            )
    except (AttributeError, RuntimeError, NotImplementedError, TypeError):
        return False
