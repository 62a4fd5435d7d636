"""Texts of a batch packed end to end: linears and norms meet real tokens alone, and no padding.

Attention goes by blocks of short texts of like length, otherwise by runs of texts of one length,
each a plain batch. It is computed in float32 even where the rest is bfloat16, which makes it faster
on a CPU, and never worse. (On a GPU one kernel takes texts of any lengths: ``varlen``.)
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from msiam_transformer import varlen
from msiam_transformer.attention import Attention, Blocks, Runs

NAME = "msiam_packed"
ROWS = 32  # of which packed tokens are a multiple
SHORT = 64  # tokens; of longer texts, blocks are faster than PyTorch's attention with dropout alone


class Sealed:
    """Runs that torch.compile does not look into: to it, others would be another program."""

    def __init__(self, runs: Runs) -> None:
        self.runs = runs
        self.longest = max(long for _, long in runs)
        self.blocks = cache(lambda heads: Blocks(runs, heads))


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
    sealed: Sealed | varlen.Ends | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **rest: Any,
) -> tuple[Tensor, None]:
    """Attention of packed texts, each to itself alone: (1, heads, N, d) to (1, N, heads, d).

    Args:
        sealed: how the texts are laid out; None: they are padded, and attention is what
            transformers takes for these.
        sliding_window: a token attends to those that are fewer places away; None: to all.
    """
    if sealed is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **rest
        )
    states = query, key, value
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if isinstance(sealed, varlen.Ends):
        return varlen.attend(*states, sealed, scale, sliding_window), None
    seen = sliding_window is None or sealed.longest <= sliding_window
    of_like_shape = query.shape == key.shape == value.shape and query.device.type == "cpu"
    if seen and of_like_shape and (dropout or sealed.longest <= SHORT):
        return _attend_blocks(*states, sealed, scale, dropout), None
    return _attend_runs(*states, sealed, scale, dropout, sliding_window), None


@torch.compiler.disable
def _attend_blocks(
    query: Tensor, key: Tensor, value: Tensor, sealed: Sealed, scale: float, dropout: float
) -> Tensor:
    flat = (states.squeeze(0).transpose(0, 1) for states in (query, key, value))
    found: Tensor = Attention.apply(*flat, sealed.blocks(query.shape[1]), scale, dropout)
    return found[None]


@torch.compiler.disable
def _attend_runs(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    sealed: Sealed,
    scale: float,
    dropout: float,
    window: int | None,
) -> Tensor:
    flat = (states.squeeze(0).transpose(0, 1).float() for states in (query, key, value))
    mixed = [unpack(states, sealed.runs) for states in flat]
    found = []
    with torch.autocast(query.device.type, enabled=False):
        for q, k, v in zip(*mixed, strict=True):
            states = nn.functional.scaled_dot_product_attention(
                q.transpose(1, 2),
                k.transpose(1, 2),
                v.transpose(1, 2),
                attn_mask=_near(q.shape[1], window, q.device),
                dropout_p=dropout,
                scale=scale,
            )
            found.append(states.transpose(1, 2).flatten(0, 1))
    return torch.cat(found)[None].to(query.dtype)


def _near(long: int, window: int | None, device: torch.device) -> Tensor | None:
    """Which places (long, long) see which, if not all of them see all."""
    if window is None or long <= window:
        return None
    places = torch.arange(long, device=device)
    return (places[:, None] - places).abs() < window


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


def run(model: PreTrainedModel, tokens: Tensor, places: Tensor, laid: Runs | varlen.Ends) -> Tensor:
    """The states of packed tokens: (N, d)."""
    if isinstance(laid, varlen.Ends):
        return model(input_ids=tokens, position_ids=places, sealed=laid).last_hidden_state[0]
    count, more = tokens.shape[1], filling(tokens.shape[1])
    if more:  # another text, of which nobody asks
        laid = [*laid, (1, more)]
        tokens, places = (
            torch.cat([one, one[:, :1].expand(1, more)], 1) for one in (tokens, places)
        )
    found = model(input_ids=tokens, position_ids=places, sealed=Sealed(laid))
    return found.last_hidden_state[0, :count]


def filling(count: int) -> int:
    """How many tokens are put behind ``count`` of them on a CPU.

    oneDNN makes each product's code anew for each number of rows, which takes longer than a small
    product, and keeps the last thousand: of 100 batches that is 0.8 GB. So there are few numbers.
    """
    return -count % ROWS
