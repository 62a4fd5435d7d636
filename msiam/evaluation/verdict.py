"""What a model said of some items, for the report."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Verdict:
    """A decision on items that stand side by side, by default a wrong one.

    Attributes:
        items: heading -> raw item: a text, a picture or its pixels' PIL image.
        said: what the model said, as a clause; the report goes on with a semicolon.
        truth: what is right, as a clause.
        score: the similarity that it went by.
        probability: how sure it was of what it said, 0 to 1; None where nothing is calibrated.
        row: the row in the source table, from 0.
        right: whether what it said is right.
        effects: heading of a text -> its words, and what each adds to the similarity.
    """

    items: dict[str, Any]
    said: str
    truth: str
    score: float | None = None
    probability: float | None = None
    row: int | None = None
    right: bool = False
    effects: dict[str, list[tuple[str, float]]] = field(default_factory=dict)
