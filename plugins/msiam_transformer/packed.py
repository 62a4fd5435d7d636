"""Texts of a batch packed end to end: linears and norms meet real tokens alone, and no padding.

Attention goes by runs of texts of one length, each a plain batch without a mask. It is computed in
float32 even where the rest is bfloat16, which makes it faster on a CPU, and never worse.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "msiam_packed"
Runs = list[tuple[int, int]]  # of texts of one length, in order: how many, how long


def pack(tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Runs, Tensor]:
    """Padded texts to packed ones, sorted by length.

    Args:
        tokens: (B, T).
        mask: (B, T), 1 at tokens and 0 at the padding behind them.

    Returns:
        The N tokens and their places in their texts, each (1, N); the runs; and the order (B,) in
        which the texts now stand.
    """
    lengths, order = mask.sum(1).sort(stable=True)
    real = mask[order].bool()
    places = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
    long, many = lengths.unique_consecutive(return_counts=True)
    runs = list(zip(many.tolist(), long.tolist(), strict=True))
    return tokens[order][real][None], places[real][None], runs, order


def unpack(states: Tensor, runs: Runs) -> list[Tensor]:
    """Of N tokens' states (N, …), those of each run: (texts, tokens of each, …)."""
    parts = states.split([many * long for many, long in runs])
    return [part.unflatten(0, (many, long)) for part, (many, long) in zip(parts, runs, strict=True)]


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    runs: Runs | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **rest: Any,
) -> tuple[Tensor, None]:
    """Attention of packed texts, each to itself alone: (1, heads, N, d) to (1, N, heads, d).

    Without ``runs`` it is the attention that transformers takes for padded texts.
    """
    if runs is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **rest
        )
    mixed = [unpack(states[0].transpose(0, 1).float(), runs) for states in (query, key, value)]
    found = []
    with torch.autocast(query.device.type, enabled=False):
        for q, k, v in zip(*mixed, strict=True):
            states = nn.functional.scaled_dot_product_attention(
                q.transpose(1, 2),
                k.transpose(1, 2),
                v.transpose(1, 2),
                dropout_p=dropout,
                scale=scaling,
            )
            found.append(states.transpose(1, 2).flatten(0, 1))
    return torch.cat(found)[None].to(query.dtype), None


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)


@torch.no_grad()
def first_place(model: PreTrainedModel) -> int | None:
    """Where a text's places begin if the model gives the same states for packed texts, else None.

    Models differ in how they count places (RoBERTa's kin begin behind the padding's number), look
    one way alone, or bias attention. So it is tried, on three short texts.
    """
    if not model._can_set_attn_implementation():
        return None
    before = model.config._attn_implementation
    padding = model.config.pad_token_id or 0
    tokens = torch.tensor([[1, 2, 3, 4], [4, 3, padding, padding], [2, 1, padding, padding]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 0, 0]])
    training = model.training
    model.eval()
    try:
        wanted = model(input_ids=tokens, attention_mask=mask).last_hidden_state
        model.set_attn_implementation(NAME)
        flat, places, runs, order = pack(tokens, mask)
        for first in (0, padding + 1):
            found = run(model, flat, places + first, runs)
            if torch.allclose(found, wanted[order][mask[order].bool()], atol=1e-5, rtol=1e-4):
                return first
    except (TypeError, ValueError, IndexError, RuntimeError):
        pass  # the model takes no places, or no more than one kind of attention
    finally:
        model.train(training)
    model.set_attn_implementation(before)
    return None


def run(model: PreTrainedModel, tokens: Tensor, places: Tensor, runs: Runs) -> Tensor:
    """The states of packed tokens: (N, d)."""
    return model(input_ids=tokens, position_ids=places, runs=runs).last_hidden_state[0]
