"""Projection heads: from an encoder's width to the width in which towers meet."""

from __future__ import annotations

from typing import Literal

from torch import nn

from msiam.errors import RecipeError

HeadKind = Literal["linear", "mlp", "none"]


def build_head(kind: HeadKind, width: int, dim: int, where: str = "head") -> nn.Module:
    """A module from (B, width) to (B, dim).

    ``mlp`` is a layer norm and two linear layers with a GELU and dropout between them.

    Raises:
        RecipeError: ``none`` where the two widths differ.
    """
    if kind == "linear":
        return nn.Linear(width, dim)
    if kind == "mlp":
        hidden = max(width, dim)
        return nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, hidden),
            nn.GELU(),
            nn.Dropout(0.1),
            nn.Linear(hidden, dim),
        )
    if width != dim:
        raise RecipeError(
            f"{where}: none keeps the encoder's width, which is {width}, and dim is {dim}; "
            f"set dim: {width}, or another head (linear, mlp)"
        )
    return nn.Identity()
