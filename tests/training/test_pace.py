"""Towers that follow by momentum, and memories, in a whole training."""

from __future__ import annotations

import json

import pytest
import safetensors.torch
import torch

import msiam
from msiam.losses.memory import Memory
from msiam.run.folder import RunFolder
from msiam.towers.follower import Follower
from msiam.towers.model import Model
from msiam.training import objective
from msiam.training.large_batches import embed_chunks

FOODS = ("rice", "bread", "soup", "pizza", "fish", "tofu", "lentils", "pasta", "eggs", "beans")
VERBS = ("cook", "freeze", "season", "buy", "eat", "sell")
#: The same text in both columns: two views of one item, which dropout tells apart.
ROWS = [{"a": text, "b": text} for food in FOODS for verb in VERBS for text in (f"{verb} {food}",)]
WORDS = {"encoder": "lstm", "dim": 16, "hidden": 16, "min_count": 1, "dropout": 0.2}
MOMENTUM = 0.9


def recipe(loss="infonce", leader=WORDS, **train):
    return {
        "name": "run",
        "data": {"table": "given"},
        "columns": {"a": "fast", "b": "slow"},
        "towers": {"fast": leader, "slow": {"follows": "fast", "momentum": MOMENTUM}},
        "loss": loss,
        "train": {"max_steps": 6, "batch_size": 8, "evaluations": 2, **train},
    }


MOCO = {
    "name": "memory",
    "loss": {"name": "infonce", "directions": "first"},
    "size": 20,
    "start": 0,
}


@pytest.fixture
def checkpoints(monkeypatch, tmp_path):
    """What is in the checkpoint of a step: parameters by name."""
    monkeypatch.setattr(RunFolder, "tidy", lambda self: None)

    def read(step):
        file = tmp_path / "run" / "checkpoints" / f"checkpoint-{step}" / "model.safetensors"
        return safetensors.torch.load_file(file)

    return read


@pytest.fixture
def path(monkeypatch):
    """The leader's parameters after each step of the optimiser, the first before all of them."""
    found = []
    follow, build = Model.follow, Follower.fit

    def noted(tower):
        found.append([p.detach().clone().double() for p in tower.parameters()])

    def fit(self, items):
        build(self, items)
        noted(self.leader)

    def watched(self):
        noted(self.tower("fast"))
        follow(self)

    monkeypatch.setattr(Follower, "fit", fit)
    monkeypatch.setattr(Model, "follow", watched)
    return found


@pytest.mark.parametrize(
    ("leader", "settings"),
    [
        ({}, {}),
        ({"freeze": True, "head": "mlp"}, {}),
        ({}, {"precision": "bf16"}),
        ({}, {"chunk": 3}),
    ],
    ids=["plain", "frozen", "bf16", "two passes"],
)
def test_it_moves_once_after_each_step_of_the_optimiser(
    leader, settings, path, checkpoints, tmp_path
):
    msiam.train(recipe(MOCO, WORDS | leader, **settings), ROWS, folder=tmp_path / "run")
    assert len(path) == 7  # the beginning, and six steps
    right = path[0]
    for step in path[1:]:
        right = [MOMENTUM * own + (1 - MOMENTUM) * p for own, p in zip(right, step, strict=True)]
    state, model = checkpoints(6), msiam.load(tmp_path / "run").model
    for tower, wanted in (("fast", path[-1]), ("slow", right)):
        names = [name for name, _ in model.tower(tower).named_parameters()]
        for name, own in zip(names, wanted, strict=True):
            found = state[f"model.towers.{tower}.{name}"].double()
            torch.testing.assert_close(found, own, rtol=1e-5, atol=1e-6)
    moved = [not torch.equal(own, first) for own, first in zip(right, path[0], strict=True)]
    assert any(moved) and (all(moved) or "freeze" in leader)


def test_the_queue_holds_keys_of_the_slow_tower(checkpoints, tmp_path, monkeypatch):
    seen = {False: [], True: []}

    def noted(tower, chunks):
        found = embed_chunks(tower, chunks)
        seen[isinstance(tower, Follower)].append(found.detach())
        return found

    monkeypatch.setattr(objective, "embed_chunks", noted)
    msiam.train(recipe(MOCO), ROWS, folder=tmp_path / "run")
    state = checkpoints(6)
    prefix = "loss.losses.0."
    assert state[prefix + "vectors"].shape == (20, 2, 16)
    assert state[prefix + "groups"].shape == (20, 2)
    rows, batches = state[prefix + "_extra_state"].tolist()
    assert batches == 6 and 40 < rows <= 48
    for place, slow in enumerate([False, True]):
        kept = state[prefix + "vectors"][:, place, None]
        assert (kept == torch.cat(seen[slow])).all(dim=2).any(dim=1).all()
        assert not (kept == torch.cat(seen[not slow])).all(dim=2).any()
    # One item, read by both columns, is one group.
    assert torch.equal(*state[prefix + "groups"].unbind(1))


def test_a_memory_starts_after_its_share_of_the_steps(checkpoints, tmp_path, monkeypatch):
    begun = []
    build = Memory._with_memory
    monkeypatch.setattr(
        Memory, "_with_memory", lambda self, *of: begun.append(self.batches) or build(self, *of)
    )
    msiam.train(recipe(MOCO | {"start": 0.5}), ROWS, folder=tmp_path / "run")
    assert begun == [3, 4, 5]


def test_momentum_contrast_learns(tmp_path):
    """Texts and the same backwards, so that they share no word: what pairs them must be learnt."""
    rows = [{"a": row["a"], "b": row["b"][::-1]} for row in ROWS]
    loss = MOCO | {"size": 64}
    settings = {"max_steps": 150, "batch_size": 16, "learning_rate": 1e-2}
    run = msiam.train(recipe(loss, **settings), rows, folder=tmp_path / "run")
    found = run.metrics["retrieval"]
    assert found["a_to_b/mrr"] > 0.7 and found["b_to_a/mrr"] > 0.7  # of six; by chance 0.41
    again = msiam.load(tmp_path / "run")
    kept = json.loads((tmp_path / "run" / "model" / "model.json").read_text())
    assert kept["towers"]["slow"] == {"follows": "fast", "momentum": MOMENTUM}
    assert again.model.fingerprint() == run.model.fingerprint()
    assert again.recipe.towers["slow"] == kept["towers"]["slow"]
    assert (
        again.match("cook rice", "ecir kooc").similarity
        > again.match("cook rice", "snaeb yub").similarity
    )
