from __future__ import annotations

import copy

import pytest
import torch

from msiam.errors import RecipeError, TrainingError
from msiam.losses.arcface import ArcFace
from msiam.losses.base import Given, Targets
from msiam.losses.proxy_anchor import ProxyAnchor

BOTH = pytest.mark.parametrize("cls", [ArcFace, ProxyAnchor])


def step(module, seed=0):
    random = torch.Generator().manual_seed(seed)
    items = torch.randn(6, 4, generator=random)
    return module({"a": items}, Targets({"a": torch.tensor([2, 9, 5, 2, 9, 7])}))


@BOTH
def test_each_class_has_a_vector_of_length_1(make, cls):
    module = make(cls)
    module.begin(torch.tensor([2, 5, 9]), 64)
    assert module.weights.shape == (3, 64)
    torch.testing.assert_close(module.weights.norm(dim=1), torch.ones(3))
    assert [name for name, _ in module.named_parameters()] == ["weights"]
    assert abs(module.weights[0] @ module.weights[1]) < 0.6  # they point in different directions


@BOTH
def test_it_goes_on_from_its_state(make, cls):
    module = make(cls)
    module.begin(torch.tensor([2, 5, 9]), 4)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    step(module).backward()
    optimizer.step()
    state = copy.deepcopy(module.state_dict())
    again = make(cls)
    again.begin(torch.tensor([0, 1, 2]), 4)
    again.load_state_dict(state)
    assert torch.equal(step(again, seed=1), step(module, seed=1))


@BOTH
def test_it_cannot_begin_without_classes(make, cls):
    with pytest.raises(TrainingError, match=r"knows of no class; call begin\(groups, dim\)"):
        step(make(cls))


@BOTH
@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_it_takes_any_number_of_columns_with_classes(make, cls, count):
    columns = [f"column {number}" for number in range(count)]
    make(cls).check("x", Given(columns, ["classes"], dim=8))
    with pytest.raises(RecipeError, match="x learns from classes"):
        make(cls).check("x", Given(columns, ["labels", "scores"], dim=8))
