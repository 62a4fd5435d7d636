"""Small batches look for who belongs together by another way than large ones: both are tested."""

from __future__ import annotations

import pytest

from msiam.mining import blocks


@pytest.fixture(params=[0, blocks.FEW], ids=["ranked", "masked"], autouse=True)
def few(request, monkeypatch):
    """Up to how many pairs a batch is small."""
    monkeypatch.setattr(blocks, "FEW", request.param)
