from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from msiam import Model
from msiam.errors import ModelError, RecipeError
from msiam.towers.follower import Follower
from msiam.towers.heads import build_head

LETTERS = {"encoder": "letters", "dim": 4, "head": "mlp", "width": 5}
FOLLOWS = {"follows": "fast", "momentum": 0.9}
COLUMNS = {"a": "fast", "b": "slow"}
TEXTS = ["abc", "cab b", "a"]


def fitted(**leader) -> Model:
    model = Model({"fast": {**LETTERS, **leader}, "slow": FOLLOWS}, COLUMNS)
    for name in model.towers:
        model.tower(name).fit(TEXTS)
    return model


def embed(model: Model, name: str) -> torch.Tensor:
    tower = model.tower(name)
    return tower(tower.encoder.collate(tower.encoder.prepare(TEXTS)))


def shake(model: Model, seed: int) -> None:
    """Another value for each of the leader's weights, as a step of an optimiser gives."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.tower("fast").parameters():
            if parameter.requires_grad:
                parameter += torch.randn(parameter.shape, generator=random)


def test_it_begins_as_a_copy_with_weights_of_its_own():
    model = fitted()
    fast, slow = model.tower("fast"), model.tower("slow")
    assert slow.encoder.alphabet == fast.encoder.alphabet
    for name, tensor in fast.state_dict().items():
        assert torch.equal(slow.state_dict()[name], tensor)
    addresses = [{p.data_ptr() for p in tower.parameters()} for tower in (fast, slow)]
    assert not addresses[0] & addresses[1]
    shake(model, 0)
    assert not torch.equal(slow.encoder.embedding.weight, fast.encoder.embedding.weight)


def test_after_k_steps_it_is_where_the_formula_says():
    model = fitted()
    where = [p.detach().double() for p in model.tower("slow").parameters()]
    for seed in range(5):
        shake(model, seed)
        model.follow()
        theirs = list(model.tower("fast").parameters())
        where = [
            0.9 * own + 0.1 * p.detach().double() for own, p in zip(where, theirs, strict=True)
        ]
    for own, right in zip(model.tower("slow").parameters(), where, strict=True):
        torch.testing.assert_close(own.double(), right, rtol=1e-6, atol=1e-6)


def test_without_momentum_it_is_the_leader_a_step_late():
    model = Model({"fast": LETTERS, "slow": FOLLOWS | {"momentum": 0}}, COLUMNS)
    for name in model.towers:
        model.tower(name).fit(TEXTS)
    shake(model, 0)
    model.follow()
    assert torch.equal(embed(model.eval(), "slow"), embed(model, "fast"))


def test_no_gradient_reaches_it():
    model = fitted().train()
    vectors = embed(model, "slow")
    assert not vectors.requires_grad and vectors.shape == (3, 4)
    (embed(model, "fast") * vectors).sum().backward()
    assert all(p.grad is None and not p.requires_grad for p in model.tower("slow").parameters())
    assert all(p.grad is not None for p in model.tower("fast").parameters())
    assert model.tower("slow").parameter_count(trained=True) == 0


def test_in_training_it_drops_out_as_its_leader_does():
    model = fitted().train()
    first, *others = (embed(model, "slow") for _ in range(50))
    assert not all(torch.equal(first, other) for other in others)
    assert torch.equal(embed(model.eval(), "slow"), embed(model, "slow"))


def test_running_statistics_are_its_own(monkeypatch):
    def head(*arguments):
        return torch.nn.Sequential(build_head(*arguments), torch.nn.BatchNorm1d(4))

    monkeypatch.setattr("msiam.towers.tower.build_head", head)
    model = fitted().train()
    norms = [model.tower(name).head[1] for name in ("fast", "slow")]
    embed(model, "slow")
    assert [int(norm.num_batches_tracked) for norm in norms] == [0, 1]
    seen = norms[1].running_mean.clone()
    shake(model, 0)
    embed(model, "fast")
    model.follow()
    assert torch.equal(norms[1].running_mean, seen)
    assert torch.equal(norms[1].weight, torch.lerp(torch.ones(4), norms[0].weight, 0.1))


def test_of_a_frozen_encoder_the_head_follows():
    model = fitted(freeze=True)
    fast, slow = model.tower("fast"), model.tower("slow")
    shake(model, 0)
    model.train()
    model.follow()
    weights = [tower.encoder.encoder.embedding.weight for tower in (fast, slow)]
    assert torch.equal(*weights)
    assert not slow.encoder.encoder.training
    assert not torch.equal(slow.head[1].weight, fast.head[1].weight)


def test_saved_and_loaded_it_still_follows(tmp_path):
    model = fitted()
    shake(model, 0)
    model.follow()
    again = Model.load(model.save(tmp_path / "model"))
    assert again.describe() == model.describe()
    assert again.describe()["towers"]["slow"] == FOLLOWS
    assert again.fingerprint() == model.fingerprint()
    assert not any(p.requires_grad for p in again.tower("slow").parameters())
    for one in (model, again):
        shake(one, 1)
        one.follow()
    assert again.fingerprint() == model.fingerprint()
    vectors = model.eval().encode({"b": TEXTS})["b"]
    assert np.array_equal(again.encode({"b": TEXTS})["b"], vectors)


def test_a_copy_of_a_model_follows_its_own_leader():
    model = fitted()
    other = copy.deepcopy(model)
    assert other.tower("slow").leader is other.tower("fast")


def test_the_leader_may_stand_below_it_and_keeps_its_place():
    model = Model({"slow": FOLLOWS, "fast": LETTERS}, {"b": "slow", "a": "fast"})
    assert list(model.towers) == ["slow", "fast"]
    assert model.leaders == ["fast"] and model.numbering == {"b": "fast", "a": "fast"}
    with pytest.raises(ModelError, match=r"towers\.slow: follows fast, which has no weights yet"):
        model.tower("slow").fit(TEXTS)


def test_its_leaders_learning_rate_is_none_of_its_own():
    model = fitted(learning_rate=1e-5)
    slow = model.tower("slow")
    assert isinstance(slow, Follower) and slow.options.learning_rate is None
    assert slow.summary == "follows fast at momentum 0.9"


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"follows": "fats"}, "towers.slow.follows: found 'fats'; it must be a tower of the model"),
        ({"follows": "fats"}, "did you mean 'fast'?"),
        (
            {"follows": "slow"},
            "found 'slow'; it must be a tower of the model that follows no other",
        ),
        ({"follows": "other"}, "found 'other'; it must be a tower of the model that follows no"),
        ({"follows": 3}, "towers.slow: follows: found 3; Input should be a valid string"),
        (
            {**FOLLOWS, "encoder": "letters"},
            "towers.slow.encoder: no such key of a tower that foll",
        ),
        ({**FOLLOWS, "dim": 8}, "towers.slow.dim: no such key of a tower that follows another and"),
        ({**FOLLOWS, "freeze": True}, "is a copy of it; Known: follows, momentum"),
        ({**FOLLOWS, "momentun": 0.5}, "towers.slow.momentun: no such key"),
        ({**FOLLOWS, "momentun": 0.5}, "did you mean 'momentum'?"),
        ({**FOLLOWS, "momentum": 1}, "towers.slow: momentum: found 1; Input should be less than 1"),
    ],
)
def test_what_no_tower_can_follow(keys, said):
    towers = {"fast": LETTERS, "slow": keys, "other": FOLLOWS}
    with pytest.raises(RecipeError) as raised:
        Model(towers, {**COLUMNS, "c": "other"})
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
