"""Which items are texts."""

from __future__ import annotations

import numpy as np
import pytest

from msiam import Rejected, text_of


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (None, "null text"),
        (float("nan"), "null text"),
        (np.float64("nan"), "null text"),
        ("", "empty text"),
        (" \t\n\u00a0", "empty text"),
        (7, "not a text but int"),
        (b"bytes", "not a text but bytes"),
        (["list"], "not a text but list"),
        ("half \ud83d", "not a text: half of a surrogate pair in it"),
    ],
)
def test_what_is_no_text_says_why(item, reason):
    assert text_of(item) == Rejected(reason)


def test_a_text_is_itself():
    assert text_of(" Café ") == " Café "
