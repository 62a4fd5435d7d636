"""Towers that begin with what another run's encoder has learnt, and what is refused."""

from __future__ import annotations

import pytest
import torch

from msiam import Model
from msiam.errors import RecipeError
from msiam.towers.beginning import fit_towers

LETTERS = {"encoder": "letters", "dim": 4, "width": 5}
TEXTS = ["abc", "cab b", "a"]


@pytest.fixture
def learnt(tmp_path):
    """A saved model whose encoder has met other letters, and other weights."""
    torch.manual_seed(1)
    model = Model({"text": LETTERS}, {"a": "text"})
    model.tower("text").fit(["xyz xx"])
    return model, str(model.save(tmp_path / "learnt"))


def begun(towers, columns=None):
    model = Model(towers, columns or {"a": "text"})
    fit_towers(model, dict.fromkeys(towers, TEXTS))
    return model


def test_the_encoder_is_the_other_ones_and_the_head_is_new(learnt):
    other, folder = learnt
    model = begun({"text": {**LETTERS, "dim": 3, "head": "mlp", "init": folder}})
    theirs, own = other.tower("text").encoder, model.tower("text").encoder
    assert own.alphabet == theirs.alphabet
    for name, value in theirs.state_dict().items():
        assert torch.equal(own.state_dict()[name], value)
    assert model.encode({"a": ["zyx"]})["a"].shape == (1, 3)
    assert model.describe()["towers"]["text"]["init"] == folder


def test_a_runs_folder_holds_its_model(learnt, tmp_path):
    other, _ = learnt
    other.save(tmp_path / "run" / "model")
    model = begun({"text": {**LETTERS, "init": str(tmp_path / "run")}})
    assert model.tower("text").encoder.alphabet == other.tower("text").encoder.alphabet


def test_what_follows_begins_as_its_leader(learnt):
    _, folder = learnt
    towers = {"slow": {"follows": "text"}, "text": {**LETTERS, "init": folder}}
    model = begun(towers, {"a": "text", "b": "slow"})
    leader, slow = (model.tower(name).state_dict() for name in ("text", "slow"))
    assert all(torch.equal(slow[name], value) for name, value in leader.items())


def test_a_frozen_encoder_may_be_anothers(learnt):
    other, folder = learnt
    model = begun({"text": {**LETTERS, "freeze": True, "init": folder}})
    assert not any(p.requires_grad for p in model.tower("text").encoder.parameters())
    state = other.tower("text").encoder.state_dict()
    for name, value in model.tower("text").encoder.state_dict().items():
        assert torch.equal(state[name.removeprefix("encoder.")], value)


@pytest.mark.parametrize(
    ("towers", "said"),
    [
        ({"text": {"init": "nowhere"}}, r"towers\.text\.init: nowhere: there is no such folder; "),
        ({"texts": {}}, r"towers\.texts\.init: .* has no tower of this name, 'texts'; did you"),
        (
            {"text": {"encoder": "lstm", "width": None}},
            r"towers\.text\.init: in .* the tower 'text' is letters, and here it is lstm; take one",
        ),
        ({"text": {"width": 6}}, r"towers\.text\.init: the weights of .* do not fit; give tow"),
    ],
)
def test_what_does_not_fit_is_refused(learnt, towers, said):
    ((name, keys),) = towers.items()
    keys = {**LETTERS, "init": learnt[1], **keys}
    keys = {key: value for key, value in keys.items() if value is not None}
    with pytest.raises(RecipeError, match=said):
        begun({name: keys}, {"a": name})
