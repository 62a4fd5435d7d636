"""The first layers of an encoder stay bit for bit what they are, and the rest learns as ever."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import msiam
from msiam.errors import RecipeError
from msiam.recipe import Train
from msiam.towers.first_layers import freeze_first
from msiam.towers.tower import Tower
from msiam.training.layers import equipped
from msiam.training.trainer import parameter_groups

CONFIG = {
    "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24
}  # fmt: skip
TEXT = {
    "encoder": "transformer", "dim": 8, "vocabulary": 280, "config": CONFIG,
    "dropout": 0.3, "attention_dropout": 0.2,
}  # fmt: skip
PICTURE = {"dim": 8, "size": 32, "augment": False}
#: The options; the layers frozen; and what of the encoder that is: parameters, buffers and modules.
KINDS: dict[str, tuple[dict[str, Any], int, str]] = {
    "packed": (TEXT, 2, r"model\.(embeddings|encoder\.layer\.[01])\b"),
    "padded": (TEXT | {"pooling": "cls"}, 1, r"model\.(embeddings|encoder\.layer\.0)\b"),
    "small_cnn": ({"encoder": "small_cnn", "width": 4} | PICTURE, 2, r"network\.[0-4]\b"),
    "resnet18": (
        {"encoder": "resnet18"} | PICTURE, 3, r"network\.(conv1|bn1|relu|maxpool|layer[123])\b"
    ),
    "all layers": ({"encoder": "small_cnn", "width": 4} | PICTURE, 4, r"network\.[0-6]\b"),
}  # fmt: skip
WORDS = ["red", "green", "blue cat", "dog", "house and boat", "tree", "where is the dog", "a"] * 2
PICTURES = list(np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8))


def build(kind: str, **options: Any) -> Tower:
    keys = dict(KINDS[kind][0])
    torch.manual_seed(0)
    tower = Tower(keys.pop("encoder"), "towers.one", **keys, **options)
    tower.fit(WORDS)
    if kind == "padded":  # as on a GPU
        tower.encoder._first_place = None
    return tower


def batch(tower: Tower) -> dict[str, Tensor]:
    items = PICTURES if tower.encoder.modality == "image" else WORDS
    return tower.encoder.collate(tower.encoder.prepare(items))


def cost(tower: Tower, seed: int) -> Tensor:
    torch.manual_seed(seed)
    return (tower(batch(tower)) @ torch.randn(8)).exp().sum()


def frozen_by_name(kind: str, named: Any) -> dict[str, Any]:
    return {name: one for name, one in named if re.match(KINDS[kind][2], name)}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_frozen_stays_bit_for_bit_and_all_else_learns(kind: str) -> None:
    tower = build(kind, freeze=KINDS[kind][1]).train()
    before = {name: tensor.clone() for name, tensor in tower.encoder.state_dict().items()}
    optimizer = torch.optim.AdamW(tower.parameters(), lr=0.01)
    for seed in range(3):
        optimizer.zero_grad()
        cost(tower, seed).backward()
        optimizer.step()
        tower.eval().train()  # as an evaluation between steps leaves it
    after = tower.encoder.state_dict()
    same = {name for name, tensor in after.items() if torch.equal(tensor, before[name])}
    wanted = frozen_by_name(kind, after.items())
    assert same == set(wanted) and (len(same) < len(after) or kind == "all layers")


@pytest.mark.parametrize("kind", KINDS)
def test_it_learns_as_if_frozen_by_hand(kind: str) -> None:
    tower, other = build(kind, freeze=KINDS[kind][1]).train(), build(kind).train()
    for parameter in frozen_by_name(kind, other.encoder.named_parameters()).values():
        parameter.requires_grad_(False)
    for module in frozen_by_name(kind, other.encoder.named_modules()).values():
        module.eval()
    found, wanted = cost(tower, 1), cost(other, 1)
    found.backward()
    wanted.backward()
    assert torch.equal(found, wanted)
    for (name, one), two in zip(tower.named_parameters(), other.parameters(), strict=True):
        assert (one.grad is None) == (two.grad is None) == (not one.requires_grad), name
        assert one.grad is None or torch.equal(one.grad, two.grad), name
    assert tower.parameter_count(trained=True) == other.parameter_count(trained=True)
    free = build(kind).train()
    assert tower.parameter_count(trained=True) < tower.parameter_count() == free.parameter_count()
    assert not torch.equal(cost(free, 1), wanted)  # its dropout or its batch norms count


@pytest.mark.parametrize("kind", ["packed", "resnet18"])
def test_described_saved_and_loaded_it_is_as_frozen(kind: str, tmp_path: Path) -> None:
    keys = KINDS[kind][0] | {"freeze": KINDS[kind][1]}
    model = msiam.Model({"one": keys}, {"a": "one", "b": "one"})
    tower = model.tower("one")
    tower.fit(WORDS)
    assert tower.describe()["freeze"] == KINDS[kind][1]
    model.save(tmp_path / "model")
    again = msiam.Model.load(tmp_path / "model")
    items = {"a": PICTURES if kind == "resnet18" else WORDS}
    np.testing.assert_array_equal(again.encode(items)["a"], model.encode(items)["a"])
    learns, learnt = (
        {name for name, p in one.named_parameters() if p.requires_grad}
        for one in (model, again.train())
    )
    assert learns == learnt
    stands, stood = (
        {name for name, module in one.named_modules() if not module.training}
        for one in (model.train(), again)
    )
    assert stands == stood
    assert set(frozen_by_name(kind, again.encoders["one"].named_modules())) == {
        name.removeprefix("towers.one.encoder.") for name in stands
    }


def test_what_learns_of_the_encoder_has_the_towers_learning_rate() -> None:
    keys = TEXT | {"freeze": 2, "learning_rate": 1e-5}
    model = msiam.Model({"one": keys}, {"a": "one", "b": "one"})
    tower = model.tower("one")
    tower.fit(WORDS)
    groups = parameter_groups(
        Mock(model=model, loss=nn.Module(), parameters=model.parameters),
        Mock(learning_rate=1e-3, weight_decay=0.01),
    )
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    learning = [p for p in tower.encoder.parameters() if p.requires_grad]
    assert rates == dict.fromkeys(map(id, learning), 1e-5) | dict.fromkeys(
        map(id, tower.head.parameters()), 1e-3
    )
    assert learning == list(tower.encoder.layers()[2].parameters())


def test_a_follower_has_the_layers_of_its_leader() -> None:
    towers = {"one": TEXT | {"freeze": 2}, "two": {"follows": "one", "momentum": 0.5}}
    model = msiam.Model(towers, {"a": "one", "b": "two"})
    for name in towers:
        model.tower(name).fit(WORDS)
    model.train()
    still = [
        [name for name, module in encoder.named_modules() if not module.training]
        for encoder in model.encoders.values()
    ]
    assert still[0] == still[1] != []
    before = {name: p.clone() for name, p in model.encoders["two"].named_parameters()}
    with torch.no_grad():
        for parameter in model.encoders["one"].parameters():
            if parameter.requires_grad:
                parameter.add_(1)
    model.follow()
    after = dict(model.encoders["two"].named_parameters())
    same = {name for name, p in after.items() if torch.equal(p, before[name])}
    assert same == set(frozen_by_name("packed", after.items()))


def test_switches_leave_what_is_frozen_alone_and_gradients_as_they_are() -> None:
    keys = TEXT | {"freeze": 2}
    model = msiam.Model({"one": keys}, {"a": "one", "b": "one"})
    tower = model.tower("one")
    tower.fit(WORDS)
    tower.train()
    cost(tower, 1).backward()
    wanted = [p.grad for p in tower.parameters() if p.requires_grad]
    tower.zero_grad()
    with equipped(model, Train(gradient_checkpointing=True)):
        changed = ["forward" in vars(layer) for layer in tower.encoder.layers()]
        cost(tower, 1).backward()
    assert changed == [False, False, True]
    found = [p.grad for p in tower.parameters() if p.requires_grad]
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize(
    "switches",
    [{}, {"gradient_checkpointing": True}, {"compile": True}, {"chunk": 5}],
    ids=["plain", "checkpointing", "compiled", "two passes"],
)
def test_in_a_run(switches: dict[str, Any], tmp_path: Path) -> None:
    model = msiam.Model({"one": TEXT | {"freeze": 2}}, {"a": "one", "b": "one"})
    model.tower("one").fit(WORDS)
    before = {name: tensor.clone() for name, tensor in model.encoders["one"].state_dict().items()}
    rows = [{"a": f"{word} {n}", "b": f"{word} {n} too"} for n, word in enumerate(WORDS * 2)]
    run = msiam.train(
        model, rows, folder=tmp_path / "run", batch_size=8, max_steps=6, evaluations=2, **switches
    )
    for trained in (run.model, msiam.load(tmp_path / "run").model):
        after = trained.encoders["one"].state_dict()
        same = {name for name, tensor in after.items() if torch.equal(tensor, before[name])}
        assert same == set(frozen_by_name("packed", after.items()))


@pytest.mark.parametrize(
    ("encoder", "count", "line"),
    [
        ("lstm", 1, "found 1, and lstm names no layers; give true for all of it"),
        ("small_cnn", 5, "found 5, and small_cnn has 4 layers; give at most 4, or true for all"),
    ],
)
def test_more_layers_than_there_are(encoder: str, count: int, line: str) -> None:
    tower = Tower(encoder, "towers.one", freeze=count)
    with pytest.raises(RecipeError, match=f"^towers.one.freeze: {line}"):
        tower.fit(WORDS * 3)
    assert all(parameter.requires_grad for parameter in tower.parameters())


@pytest.mark.parametrize("wrong", [0, -1, 2.0, "2", None])
def test_a_count_is_a_whole_number_from_one_on(wrong: Any) -> None:
    with pytest.raises(RecipeError, match=r"freeze: found .*; give true, false, or how many"):
        Tower("small_cnn", "towers.one", freeze=wrong)


def test_one_is_a_layer_and_no_yes() -> None:
    assert Tower("small_cnn", freeze=1).options.freeze is not True


def test_what_stands_between_layers_belongs_to_what_is_before() -> None:
    class Three(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token = nn.Parameter(torch.zeros(1))
            self.stem, self.one, self.norm = (nn.Linear(2, 2) for _ in range(3))
            self.inside = nn.Sequential(nn.Linear(2, 2), nn.Dropout(), nn.Linear(2, 2))
            self.last = nn.Linear(2, 2)

        def layers(self) -> list[nn.Module]:
            return [self.one, self.inside[0], self.inside[2]]

    def learning(count: int) -> tuple[set[str], set[nn.Module]]:
        model = Three()
        still = freeze_first(model, count, "three", "freeze")
        names = {name.rpartition(".")[0] for name, p in model.named_parameters() if p.requires_grad}
        return names, {name for name, module in model.named_modules() if module in still}

    assert learning(1) == ({"inside.0", "inside.2", "last"}, {"stem", "one", "norm"})
    assert learning(2) == (
        {"inside.2", "last"}, {"stem", "one", "norm", "inside.0", "inside.1"}
    )  # fmt: skip
    everything = {"stem", "one", "norm", "inside", "inside.0", "inside.1", "inside.2"}
    assert learning(3) == ({"last"}, everything)
