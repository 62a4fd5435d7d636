"""A frozen encoder is never trained, runs once an item, and gives what it gave unfrozen."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from msiam import Rejected, Tower, errors, load, train
from msiam.towers.frozen import Frozen

WORDS = ["one", "two three", "four five six", "seven"] * 3
ROWS = [{"a": f"{word} {n}", "b": f"{word} {n} too"} for n, word in enumerate(WORDS)]
KEYS = {"hidden": 8, "embedding": 8, "dim": 8, "min_count": 1}
TEXT = {"encoder": "lstm"} | KEYS


def tower(**options):
    torch.manual_seed(0)
    made = Tower("lstm", **KEYS, **options)
    made.fit(WORDS)
    return made.eval()


def recipe(**keys):
    return {
        "name": "frozen",
        "data": {"table": "given", "split": {"validation": 3}},
        "columns": {"a": "left", "b": "right"},
        "towers": {"left": TEXT | {"freeze": True} | keys, "right": TEXT},
        "loss": "infonce",
        "train": {"epochs": 2, "batch_size": 4},
        "evaluate": "retrieval",
    }


def test_its_vectors_are_those_of_the_encoder_inside():
    frozen, free = tower(freeze=True).encoder, tower().encoder
    mixed = [*WORDS, None, " "]
    features = frozen.prepare(mixed)
    assert [isinstance(feature, Rejected) for feature in features] == [False] * 12 + [True] * 2
    wanted = free(free.collate(free.prepare(WORDS)))
    found = frozen(frozen.collate(features[:12]))
    torch.testing.assert_close(found, wanted)
    assert frozen.dim == free.dim and frozen.fingerprint() == free.fingerprint()


def test_it_neither_learns_nor_drops_out():
    frozen = tower(freeze=True, dropout=0.9)
    assert frozen.parameter_count(trained=True) == sum(p.numel() for p in frozen.head.parameters())
    assert frozen.parameter_count() > frozen.parameter_count(trained=True)
    frozen.train()
    batch = frozen.encoder.collate(frozen.encoder.prepare(WORDS))
    frozen(batch)[:, 0].sum().backward()
    learns = {name for name, p in frozen.named_parameters() if p.grad is not None}
    assert learns == {"head.weight", "head.bias"}
    assert not frozen.encoder.encoder.training
    first, second = (np.stack(frozen.encoder.prepare(WORDS)) for _ in range(2))
    assert np.array_equal(first, second)


def test_it_runs_in_bfloat16():
    frozen = tower(freeze=True).bfloat16()
    batch = frozen.encoder.collate(frozen.encoder.prepare(WORDS))
    assert frozen(batch).shape == (12, 8)


def test_saved_and_restored_it_is_the_same(tmp_path):
    frozen = tower(freeze=True)
    frozen.encoder.save(tmp_path)
    other = Tower("lstm", **KEYS, freeze=True)
    other.restore(tmp_path)
    other.load_state_dict(frozen.state_dict())
    assert isinstance(other.encoder, Frozen) and other.parameter_count(True) == 8 * 16 + 8
    assert np.array_equal(other.encoder.prepare(WORDS), frozen.encoder.prepare(WORDS))


def test_a_run_encodes_each_item_once(tmp_path, monkeypatch):
    ran = []
    encode = Frozen.prepare
    monkeypatch.setattr(Frozen, "prepare", lambda s, items: ran.extend(items) or encode(s, items))
    run = train(recipe(), ROWS, folder=tmp_path / "run")
    assert sorted(ran) == sorted(row["a"] for row in ROWS)  # each item once in the whole run
    vectors = run.model.encode({"a": WORDS})["a"]
    assert np.array_equal(load(tmp_path / "run").model.encode({"a": WORDS})["a"], vectors)


def test_nothing_left_to_train_is_an_error(tmp_path):
    keys = {"freeze": True, "head": "none", "dim": 16}
    wrong = recipe(**keys) | {"columns": {"a": "left", "b": "left"}, "loss": "triplet"}
    del wrong["towers"]["right"]
    with pytest.raises(errors.RecipeError, match="nothing is left to train"):
        train(wrong, ROWS, folder=tmp_path / "run")


def test_a_frozen_encoder_has_no_learning_rate():
    with pytest.raises(errors.RecipeError, match="frozen encoder has no `learning_rate`"):
        Tower("lstm", **KEYS, freeze=True, learning_rate=1e-4)
