"""Attention of packed texts on a GPU: one kernel over texts of any lengths, laid end to end.

It multiplies in half precision alone, and drops nothing out; other batches are padded.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn
from torch.nn.attention.varlen import varlen_attn

HALVES = (torch.bfloat16, torch.float16)


class Ends:
    """Where texts begin and end that are laid end to end. torch.compile does not look into it.

    Args:
        mask: (B, T), 1 at tokens and 0 at the padding behind them.
        dtype: what attention multiplies in.
    """

    def __init__(self, mask: Tensor, dtype: torch.dtype) -> None:
        self.ends = nn.functional.pad(mask.sum(1).cumsum(0), (1, 0)).to(torch.int32)
        self.longest = mask.shape[1]
        self.dtype = dtype


@torch.compiler.disable
def attend(
    query: Tensor, key: Tensor, value: Tensor, ends: Ends, scale: float, window: int | None
) -> Tensor:
    """Attention of each text to itself alone: (1, heads, N, d) to (1, N, heads, d).

    Args:
        window: a token attends to those that are fewer places away; None: to all.
    """
    states = (part.squeeze(0).transpose(0, 1).to(ends.dtype) for part in (query, key, value))
    found = varlen_attn(
        *states,
        ends.ends,
        ends.ends,
        ends.longest,
        ends.longest,
        scale=scale,
        window_size=(-1, -1) if window is None else (window - 1, window - 1),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return found[None].to(query.dtype)


def half_of(device: torch.device, weights: torch.dtype) -> torch.dtype | None:
    """What linear layers multiply in on a device, if that is a half precision; else None."""
    on = torch.is_autocast_enabled(device.type)
    dtype = torch.get_autocast_dtype(device.type) if on else weights
    return dtype if dtype in HALVES else None


@cache
def works(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether the kernel runs here, in both directions, and gives what PyTorch's attention does."""
    random = torch.Generator().manual_seed(0)
    states = torch.randn(3, 1, 2, 8, 32, generator=random).to(device, dtype).requires_grad_()
    mask = torch.ones(2, 5, dtype=torch.int64, device=device)
    mask[1, 3:] = 0
    try:
        with torch.enable_grad(), torch.autocast(device.type, enabled=False):
            found = attend(*states, Ends(mask, dtype), 0.2, None).transpose(1, 2)
            parts = (
                nn.functional.scaled_dot_product_attention(
                    *(part.float() for part in text), scale=0.2
                )
                for text in (states[..., :5, :], states[..., 5:, :])
            )
            wanted = torch.cat(list(parts), dim=2)
            slopes = [
                torch.autograd.grad(out.float().square().sum(), states)[0]
                for out in (found, wanted)
            ]
    except (RuntimeError, NotImplementedError, TypeError, ImportError):
        return False  # an older card or PyTorch, or a device that has no such kernel
    return all(
        torch.allclose(one.float(), other.float(), atol=0.05, rtol=0.05)
        for one, other in ((found, wanted), slopes)
    )
