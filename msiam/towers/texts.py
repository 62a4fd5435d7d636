"""What the encoders of texts share: which items are texts at all."""

from __future__ import annotations

import math

from msiam.towers.encoder import Rejected


def text_of(item: object) -> str | Rejected:
    """The item itself if it is a text with anything in it, otherwise why it is not."""
    if item is None or (isinstance(item, float) and math.isnan(item)):
        return Rejected("null text")
    if not isinstance(item, str):
        return Rejected(f"not a text but {type(item).__name__}")
    if not item.strip():
        return Rejected("empty text")
    try:
        item.encode()
    except UnicodeEncodeError:
        return Rejected("not a text: half of a surrogate pair in it")
    return item
