"""The tests that every miner must pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from msiam.mining.batch import Miner
from msiam.registry.conformance.common import check_options, require, seeded

ANCHORS, CANDIDATES, DIM = 12, 20, 8


def check_miner(cls: type[Miner], options: Mapping[str, Any] | None = None) -> None:
    """What is chosen is a candidate of another group, or −1 where there is none.

    Raises:
        AssertionError: the miner breaks the contract; the message says which part of it.
        MsiamError: it cannot be made here (an option is missing).
    """
    require(issubclass(cls, Miner), "must be a subclass of msiam.Miner")
    miner = cls(check_options(cls, options or {}))
    with seeded(0):
        anchors = torch.nn.functional.normalize(torch.randn(ANCHORS, DIM), dim=1)
        candidates = torch.nn.functional.normalize(torch.randn(CANDIDATES, DIM), dim=1)
        anchors[3] = candidates[3]  # as near as can be, and of the same group
        groups = torch.arange(ANCHORS) % 4, torch.arange(CANDIDATES) % 4
        related = torch.zeros(ANCHORS, dtype=torch.int64), torch.zeros(CANDIDATES).long()

        chosen = _choose(miner, anchors, candidates, *groups)
        require(bool((chosen >= 0).any()), "it chooses none of 15 negatives for any anchor")
        _choose(miner, anchors.bfloat16(), candidates.bfloat16(), *groups)
        _choose(miner, anchors.requires_grad_(), candidates.requires_grad_(), *groups)
        _choose(miner, anchors[:1], candidates, groups[0][:1], groups[1])
        none = _choose(miner, anchors, candidates, *related)
        require(bool((none == -1).all()), "it chooses where all candidates are of the same group")
        _choose(miner, anchors, candidates[:0], groups[0], groups[1][:0])
        _choose(miner, anchors[:0], candidates, groups[0][:0], groups[1])


def _choose(
    miner: Miner, anchors: Tensor, candidates: Tensor, mine: Tensor, theirs: Tensor
) -> Tensor:
    copies = [tensor.clone() for tensor in (anchors, candidates, mine, theirs)]
    chosen = miner.choose(anchors, candidates, mine, theirs)
    for tensor, copy in zip((anchors, candidates, mine, theirs), copies, strict=True):
        require(torch.equal(tensor, copy), "it changes what it is given")
    shape, whole = tuple(chosen.shape), not chosen.is_floating_point()
    require(shape == (len(anchors),) and whole, f"it gives {shape} {chosen.dtype}, not integers")
    inside = bool(((chosen >= -1) & (chosen < len(candidates))).all())
    require(inside, f"it chooses candidates that are not there: {chosen.tolist()}")
    found = chosen >= 0
    own = (theirs[chosen[found]] == mine[found]).any() if found.any() else False
    require(not own, "it chooses a candidate of the anchor's own group")
    return chosen
