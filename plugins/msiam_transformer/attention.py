"""Attention of short packed texts on a CPU, each to itself alone.

PyTorch's own takes the exponential of fewer than 16 numbers one by one, and with dropout computes
a text's scores several times over. Here texts of like length stand side by side, padded to one
length of 16 or more, and each step is one batch of products.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Runs = list[tuple[int, int]]  # of texts of one length, in order: how many, how long
LEAST, STEP = 16, 8  # lengths to which texts are padded: the least, and from there on
DRAWS = 2**16  # what dropout tells apart


class Block(NamedTuple):
    """Texts that are padded to one length."""

    rows: Tensor  # (texts · heads · length,) of N · heads ones: the states that stand there
    bias: Tensor  # (texts · heads, 1, length): 0 at real keys, -inf at the padding
    real: Tensor  # (texts · heads, length, 1): 1 at real queries, 0 at the padding


class Blocks:
    """How N packed tokens are laid out in blocks: the same for every layer of a model."""

    def __init__(self, runs: Runs, heads: int) -> None:
        many, long = (torch.tensor(numbers) for numbers in zip(*runs, strict=True))
        lengths = long.repeat_interleave(many)
        starts = lengths.cumsum(0) - lengths
        padded = ((lengths + STEP - 1) // STEP * STEP).clamp(min=LEAST)
        head = torch.arange(heads)[None, :, None]
        self.blocks: list[Block] = []
        tokens, places, filled = [], [], 0
        for size in padded.unique().tolist():
            of = padded == size
            place = torch.arange(size)
            real = place < lengths[of, None]
            token = torch.where(real, starts[of, None] + place, 0)
            real_of_head = real[:, None].expand(-1, heads, -1).flatten(0, 1).float()
            rows = (token[:, None] * heads + head).flatten()
            self.blocks.append(Block(rows, real_of_head.log()[:, None], real_of_head[..., None]))
            # Where the states of each real token's heads now are, among those of all blocks.
            here = filled + torch.arange(len(rows)).view(-1, heads, size)
            tokens.append(token[real])
            places.append(here.transpose(1, 2)[real])
            filled += len(rows)
        self.places = torch.cat(places)[torch.cat(tokens).argsort()].flatten()

    def gather(self, states: Tensor) -> list[Tensor]:
        """(N, heads, d) to a float32 (texts · heads, length, d) a block."""
        rows = states.reshape(-1, states.shape[-1])
        return [
            rows.index_select(0, block.rows).float().view(*block.bias.shape[::2], -1)
            for block in self.blocks
        ]

    def scatter(self, parts: list[Tensor], like: Tensor) -> Tensor:
        """Back again, the padding left out."""
        rows = torch.cat([part.flatten(0, 1) for part in parts])
        return rows.index_select(0, self.places).view(like.shape).to(like.dtype)


class Attention(torch.autograd.Function):
    """softmax(scale · q kᵀ) v within each text, for (N, heads, d) states; dropout of weights."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        blocks: Blocks,
        scale: float,
        dropout: float,
    ) -> Tensor:
        dropped = round(dropout * DRAWS)
        ctx.blocks, ctx.scale, ctx.kept_scale = blocks, scale, DRAWS / max(1, DRAWS - dropped)
        states = (blocks.gather(part) for part in (query, key, value))
        found, saved = [], []
        with torch.autocast("cpu", enabled=False):
            for block, q, k, v in zip(blocks.blocks, *states, strict=True):
                weights = torch.baddbmm(block.bias, q, k.mT, alpha=scale).softmax(-1)
                kept = _draw(weights.shape, dropped) if dropped else None
                found.append(_dropped(weights, kept, ctx.kept_scale) @ v)
                saved += [weights, kept]
        ctx.save_for_backward(query, key, value, *saved)
        return blocks.scatter(found, query)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, *saved = ctx.saved_tensors
        states = (ctx.blocks.gather(part) for part in (query, key, value, gradient))
        of_query, of_key, of_value = [], [], []
        with torch.autocast("cpu", enabled=False):
            for number, (q, k, v, g) in enumerate(zip(*states, strict=True)):
                weights, kept = saved[2 * number : 2 * number + 2]
                g = g.mul_(ctx.blocks.blocks[number].real)
                of_value.append(_dropped(weights, kept, ctx.kept_scale).mT @ g)
                of_weights = _dropped(g @ v.mT, kept, ctx.kept_scale)
                of_scores = torch._softmax_backward_data(of_weights, weights, -1, weights.dtype)
                of_scores.mul_(ctx.scale)
                of_query.append(of_scores @ k)
                of_key.append(of_scores.mT @ q)
        parts = zip((of_query, of_key, of_value), (query, key, value), strict=True)
        return *(ctx.blocks.scatter(found, like) for found, like in parts), None, None, None


def _draw(shape: torch.Size, dropped: int) -> Tensor:
    """bool of this shape, each False with the probability ``dropped`` / 65536."""
    bits = torch.empty(shape, dtype=torch.int16).random_(-DRAWS // 2, DRAWS // 2)
    return bits >= dropped - DRAWS // 2


def _dropped(weights: Tensor, kept: Tensor | None, scale: float) -> Tensor:
    return weights if kept is None else weights.mul(scale).mul_(kept)
