"""Who is compared with whom."""

from __future__ import annotations

import torch

from msiam.losses.base import Targets
from msiam.losses.sides import matched


def test_one_column_is_compared_with_itself_and_labels_say_nothing():
    groups = torch.arange(3)
    vectors = torch.randn(3, 2)
    ((a, b, pairs),) = matched({"a": vectors}, Targets({"a": groups}, groups > 0), pool=False)
    assert torch.equal(a, vectors) and torch.equal(b, vectors)
    assert pairs.itself.tolist() == [0, 1, 2] and pairs.partner is None


def test_in_a_pool_each_is_its_partners_partner():
    groups = {"a": torch.tensor([0, 1]), "b": torch.tensor([2, 1])}
    vectors = {name: torch.randn(2, 3) for name in "ab"}
    ((*_, pairs),) = matched(vectors, Targets(groups, torch.tensor([True, False])), pool=True)
    assert pairs.partner.tolist() == [2, 3, 0, 1]
    assert pairs.same.tolist() == [True, False, True, False]
    positive = pairs.positive(slice(0, 4)) & ~torch.eye(4, dtype=torch.bool)
    assert positive.nonzero().tolist() == [[0, 2], [2, 0]]
