from __future__ import annotations

import pytest
import torch

from msiam.errors import RecipeError
from msiam.towers.heads import build_head


@pytest.mark.parametrize(
    ("kind", "width", "dim"), [("linear", 5, 3), ("mlp", 5, 3), ("none", 4, 4)]
)
def test_a_head_leads_from_one_width_to_the_other(kind, width, dim):
    assert build_head(kind, width, dim)(torch.randn(2, width)).shape == (2, dim)


def test_none_changes_nothing():
    vectors = torch.randn(2, 4)
    assert torch.equal(build_head("none", 4, 4)(vectors), vectors)


def test_none_cannot_change_the_width():
    with pytest.raises(RecipeError) as raised:
        build_head("none", 5, 3, "towers.text.head")
    assert str(raised.value).startswith(
        "towers.text.head: none keeps the encoder's width, which is 5, and dim is 3; set dim: 5"
    )
