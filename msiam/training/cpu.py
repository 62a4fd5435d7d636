"""What a CPU trains with faster than with PyTorch's own: float32 linears, dropout, memory."""

from __future__ import annotations

import contextlib
import ctypes
import math
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

DRAWS = 2**15  # what dropout tells apart: its share is right to 1 / 65536
WIDE_AS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # the integers of so many bytes
ROOM = 2**31 - 1  # bytes; the most that mallopt takes


class FastLayers:
    """The layers of a module that have a faster way, and that way.

    Linear layers in float32 go through oneDNN: MKL, to which PyTorch gives them, reaches less than
    half of that where it does not know the CPU's vectors. In bf16 PyTorch takes oneDNN itself.
    Dropout draws 16 random bits a number, and clears those of the numbers that fall out.
    Both are what PyTorch computes, but for rounding and for which numbers fall out.
    """

    def __init__(self, module: nn.Module) -> None:
        self.forwards: list[tuple[Any, Callable[[Tensor], Tensor]]] = []
        for layer in module.modules():
            # A layer whose forward is somebody else's by now stays that one's.
            if "forward" in vars(layer):
                continue
            if type(layer) is nn.Linear and _multiplies():
                self.forwards.append((layer, _linear(layer)))
            elif type(layer) is nn.Dropout and not layer.inplace:
                self.forwards.append((layer, _dropout(layer)))

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        """Inside, forward and backward, the layers go the faster way."""
        try:
            for layer, forward in self.forwards:
                layer.forward = forward
            yield
        finally:
            for layer, _ in self.forwards:
                vars(layer).pop("forward", None)


def _linear(layer: nn.Linear) -> Callable[[Tensor], Tensor]:
    def forward(states: Tensor) -> Tensor:
        weight, bias = layer.weight, layer.bias
        plain = (
            states.dtype is not torch.float32
            or weight.dtype is not torch.float32
            or type(weight) is not nn.Parameter  # FSDP's, in parts
            or not (weight.is_contiguous() and states.device.type == "cpu" and states.numel())
            or torch.is_autocast_enabled("cpu")
        )
        if plain:
            return nn.functional.linear(states, weight, bias)
        return _Linear.apply(states, weight, bias)

    return forward


class _Linear(torch.autograd.Function):
    """x Wᵀ + b, and its three gradients, each a product of views: nothing is transposed."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        states = states.contiguous()
        ctx.save_for_backward(states, weight)
        return _product(states, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        states, weight = ctx.saved_tensors
        gradient = gradient.contiguous()
        rows = gradient.flatten(0, -2)
        of_states, of_weight, of_bias = ctx.needs_input_grad
        return (
            _product(gradient, weight.t()) if of_states else None,
            _product(rows.t(), states.flatten(0, -2).t()) if of_weight else None,
            rows.sum(0) if of_bias else None,
        )


def _product(states: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(states, weight, bias, "none", [], "")


@cache
def _multiplies() -> bool:
    """Whether this machine's PyTorch has oneDNN, and it gives value and gradients of ``linear``."""
    layer = nn.Linear(48, 32)
    states = torch.linspace(-1, 1, 5 * 48).view(5, 48).requires_grad_()
    weight = torch.linspace(-1, 1, 5 * 32).view(5, 32)
    wanted = [states, *layer.parameters()]
    try:
        found = [
            torch.autograd.grad((make(states, layer.weight, layer.bias) * weight).sum(), wanted)
            for make in (_Linear.apply, nn.functional.linear)
        ]
        return all(torch.allclose(a, b, atol=1e-4) for a, b in zip(*found, strict=True))
    except (AttributeError, RuntimeError, NotImplementedError, TypeError):
        return False


def _dropout(layer: nn.Dropout) -> Callable[[Tensor], Tensor]:
    def forward(states: Tensor) -> Tensor:
        dropped = round(layer.p * DRAWS)
        known = states.device.type == "cpu" and states.element_size() in WIDE_AS
        if not (layer.training and known) or dropped in (0, DRAWS):
            return nn.functional.dropout(states, layer.p, layer.training)
        return _Dropout.apply(states, dropped)

    return forward


class _Dropout(torch.autograd.Function):
    """So many of 32768 numbers become 0, and the others make up for it."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, dropped: int) -> Tensor:
        kept = _draw(states.shape, dropped)
        ctx.save_for_backward(kept)
        ctx.scale = DRAWS / (DRAWS - dropped)
        return _only(states.mul(ctx.scale), kept)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (kept,) = ctx.saved_tensors
        return _only(gradient.mul(ctx.scale), kept), None


def _draw(shape: torch.Size, dropped: int) -> Tensor:
    """int16 of this shape, each without a bit by the probability ``dropped`` / 32768, or with all.

    A comparison would be clearer, and with what turns its answers into numbers of the states' type
    takes six times as long.
    """
    count = shape.numel()
    bits = torch.empty(math.ceil(count / 4), dtype=torch.int64).random_(-(2**63), None)
    drawn = bits.view(torch.int16)[:count].bitwise_and_(DRAWS - 1)
    return drawn.sub_(dropped).bitwise_right_shift_(15).bitwise_not_().view(shape)


def _only(states: Tensor, kept: Tensor) -> Tensor:
    """The numbers that are kept, and 0 for all others: in place."""
    states.view(WIDE_AS[states.element_size()]).bitwise_and_(kept)
    return states


def clip(parameters: Iterable[nn.Parameter], most: float) -> Tensor:
    """As ``nn.utils.clip_grad_norm_``, which multiplies short gradients, too: by one, in a pass."""
    learnt = list(parameters)
    norm = nn.utils.get_total_norm([one.grad for one in learnt if one.grad is not None])
    if not norm <= most:
        nn.utils.clip_grads_with_norm_(learnt, most, norm)
    return norm


@contextlib.contextmanager
def memory_kept() -> Iterator[None]:
    """Inside, what one step frees stays with the process, for the next step to take.

    glibc gives large blocks back, and to have them again is to have each page cleared by the
    kernel: a third of the time of a small model's backward. Peak memory is the same.
    """
    libc = ctypes.CDLL(None)
    known = hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim")
    if known:
        _mallopt(libc, ROOM, ROOM)
    try:
        yield
    finally:
        if known:
            _mallopt(libc, 2**26, 2**25)  # where glibc's own rules come to with large blocks
            libc.malloc_trim(0)


def _mallopt(libc: Any, trim: int, alone: int) -> None:
    """From how many free bytes on memory is given back, and how large blocks are on their own."""
    libc.mallopt(-1, trim)
    libc.mallopt(-3, alone)
