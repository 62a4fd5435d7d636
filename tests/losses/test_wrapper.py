from __future__ import annotations

import pytest
import torch

from msiam.errors import RecipeError
from msiam.losses.base import Given
from msiam.losses.matryoshka import Matryoshka
from msiam.losses.memory import Memory
from msiam.losses.wrapper import DECLARED
from msiam.registry import registry

INNER = ["cosent", "cosine_embedding", "margin_mse", "triplet", "tuple", "arcface", "quadruplet"]


@pytest.mark.parametrize("name", INNER)
@pytest.mark.parametrize("wrapper", [Matryoshka, Memory])
def test_it_declares_what_the_inner_loss_declares(make, wrapper, name):
    inner = make(registry().find("loss", name).load())
    outer = make(wrapper, loss=name)
    for what in DECLARED:
        if (wrapper, name, what) == (Memory, "triplet", "columns"):
            assert outer.columns == (1, 2)  # rows of three are no candidates for one another
        elif (wrapper, what) == (Matryoshka, "euclidean"):
            assert outer.euclidean  # it brings the embeddings to length 1
        else:
            assert getattr(outer, what) == getattr(inner, what), what
    if wrapper is Matryoshka:
        assert [outer.in_batch(n) for n in (1, 2, 3)] == [inner.in_batch(n) for n in (1, 2, 3)]


def test_through_two_wrappers(make):
    inner = {"name": "matryoshka", "loss": "cosine_embedding"}
    outer = make(Matryoshka, loss=inner)
    assert outer.needs == ("labels",) and not outer.gathers
    outer.check("matryoshka", Given("ab", ["labels"], 16))
    where = r"^loss \(matryoshka\)\.loss \(matryoshka\)\.loss\.name: cosine_embedding learns"
    with pytest.raises(RecipeError, match=where):
        outer.check("matryoshka", Given("ab", [], 16))


def test_classes_and_steps_reach_each_copy(make):
    twice = make(Matryoshka, loss={"name": "matryoshka", "loss": "arcface"}, dims=[8, 4])
    twice.begin(torch.arange(3), 8)
    widths = [[one.weights.shape for one in inner.losses] for inner in twice.losses]
    assert widths == [[(3, 8), (3, 4), (3, 2), (3, 1)], [(3, 4), (3, 2), (3, 1), (3, 1)]]
    deep = make(Matryoshka, loss={"name": "memory", "start": 0.5}, dims=[8, 4])
    deep.lasts(10)
    assert [memory.warm for memory in deep.losses] == [5, 5]
