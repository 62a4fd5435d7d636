"""What frozen first layers make is made once, and from it comes what came without."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from msiam_transformer.encoder import TransformerEncoder
from PIL import Image
from torch import Tensor, nn

import msiam
from msiam.towers import feature_cache, kept_layers
from msiam.towers.embedding import embed_features, embed_items
from msiam.towers.first_layers import STATES, States, collate, first_fingerprint
from msiam.towers.inference import KEPT
from msiam.towers.kept_layers import KeptLayers
from msiam.towers.tower import Tower

CONFIG = {
    "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24
}  # fmt: skip
TEXT = {
    "encoder": "transformer", "dim": 8, "vocabulary": 280, "config": CONFIG,
    "dropout": 0.0, "attention_dropout": 0.0,
}  # fmt: skip
PICTURE = {"dim": 8, "size": 32, "augment": False}
#: The options, and how many layers are frozen.
KINDS: dict[str, tuple[dict[str, Any], int]] = {
    "packed": (TEXT, 2),
    "padded": (TEXT, 1),
    "all layers": (TEXT, 3),
    "roberta": (TEXT | {"config": CONFIG | {"model_type": "roberta"}}, 2),
    "modernbert": (TEXT | {"config": CONFIG | {"model_type": "modernbert"}}, 2),
    "small_cnn": ({"encoder": "small_cnn", "width": 4} | PICTURE, 2),
    "resnet18": ({"encoder": "resnet18"} | PICTURE, 3),
    "efficientnet_lite0": ({"encoder": "efficientnet_lite0"} | PICTURE, 9),
    "vit": ({"encoder": "torchvision", "model": "vit_b_32"} | PICTURE, 11),
}
WORDS = ["red", "green tree", "blue cat and dog", "dog", "a house and a boat", "where is it", "a"]
PICTURES = list(np.random.default_rng(0).integers(0, 256, (7, 32, 32, 3), dtype=np.uint8))


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MSIAM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def build(kind: str = "packed", **options: Any) -> Tower:
    keys, count = KINDS[kind]
    keys = {"freeze": count} | keys | options
    torch.manual_seed(0)
    tower = Tower(keys.pop("encoder"), "towers.one", **keys)
    tower.fit(WORDS)
    if kind == "padded":  # as on a GPU
        tower.encoder._first_place = None
    return tower


def items_of(tower: Tower) -> list[Any]:
    return PICTURES if tower.encoder.modality == "image" else WORDS


def states_of(tower: Tower, items: list[Any] | None = None) -> tuple[Any, str | None]:
    items = items_of(tower) if items is None else items
    layers = KeptLayers(tower, items)
    return layers.states(items, tower.encoder.prepare(items)), layers.reason


class Made:
    """Notes how many items go through the frozen layers; those it is tried on do not count."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        made = KeptLayers._made

        def counted(layers: KeptLayers, features: Any) -> Any:
            self.count += len(features)
            return made(layers, features)

        monkeypatch.setattr(KeptLayers, "_made", counted)
        monkeypatch.setattr(KeptLayers, "_room", lambda *_: True)  # which makes a few to weigh them


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Made:
    return Made(monkeypatch)


@pytest.mark.parametrize("kind", KINDS)
def test_from_states_come_the_same_embeddings_and_gradients(kind: str) -> None:
    tower = build(kind).train()
    features = tower.encoder.prepare(items_of(tower))
    states, reason = states_of(tower)
    assert reason is None and all(isinstance(one, States) for one in states)
    weight = torch.randn(8)

    def step(given: Any) -> tuple[Tensor, dict[str, Tensor | None]]:
        tower.zero_grad()
        found = tower(collate(tower.encoder, given))
        (found @ weight).exp().sum().backward()
        return found, {name: p.grad for name, p in tower.named_parameters()}

    wanted, gradients = step(features)
    found, equal = step(states)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    learnt = [name for name, gradient in gradients.items() if gradient is not None]
    assert learnt == [name for name, p in tower.named_parameters() if p.requires_grad]
    for name, gradient in gradients.items():
        assert (gradient is None) == (equal[name] is None)
        if gradient is not None:
            torch.testing.assert_close(equal[name], gradient, atol=1e-4, rtol=1e-3, msg=name)
    np.testing.assert_allclose(
        embed_features(tower, states), embed_features(tower, features), atol=1e-5
    )
    assert not any("forward" in vars(module) for module in tower.modules())


def test_the_frozen_layers_do_not_run_again() -> None:
    tower = build()
    states, _ = states_of(tower)
    with torch.no_grad():
        for name, weight in tower.encoder.named_parameters():
            if not weight.requires_grad and "layer" in name:
                weight.fill_(torch.nan)
    assert np.isfinite(embed_features(tower, states)).all()
    assert not np.isfinite(embed_features(tower, tower.encoder.prepare(WORDS))).all()


def test_an_item_goes_through_once_and_its_states_are_exact_and_mapped(made: Made) -> None:
    first, _ = states_of(build())
    assert made.count == len(WORDS)
    again, _ = states_of(build(), [*WORDS, "new words"])
    assert made.count == len(WORDS) + 1
    for one, other in zip(first, again, strict=False):
        assert one.dtype == np.float32 and one.shape[1:] == (16,)
        np.testing.assert_array_equal(one, other)
        assert np.shares_memory(one, other) and not other.flags.writeable


def test_a_changed_weight_of_a_frozen_layer_misses_and_of_one_that_learns_does_not(
    made: Made,
) -> None:
    tower = build()
    states_of(tower)
    for name, weight in tower.encoder.named_parameters():
        made.count = 0
        with torch.no_grad():
            weight.add_(1)
        states_of(tower)
        assert made.count == (0 if weight.requires_grad else len(WORDS)), name


def test_so_it_is_with_statistics_of_norms(made: Made) -> None:
    tower = build("resnet18")
    states_of(tower)
    for name, statistic in tower.encoder.named_buffers():
        if not name.endswith("running_var"):
            continue
        made.count = 0
        statistic.mul_(2)
        states_of(tower)
        frozen = not name.startswith("network.layer4")
        assert made.count == (len(PICTURES) if frozen else 0), name


@pytest.mark.parametrize(
    "options",
    [
        {"max_tokens": 4},
        {"freeze": 1},
        {"config": CONFIG | {"hidden_act": "relu"}},
        {"config": CONFIG | {"num_attention_heads": 4}},
    ],
    ids=str,
)
def test_a_changed_option_misses(options: dict[str, Any], made: Made) -> None:
    tower, other = build(), build(**options)
    before, _ = states_of(tower)
    made.count = 0
    if "max_tokens" not in options:  # of which the table of places depends
        other.load_state_dict(tower.state_dict())
    changed, _ = states_of(other)
    assert made.count == len(WORDS)
    same = [a.shape == b.shape and np.allclose(a, b) for a, b in zip(before, changed, strict=True)]
    assert not all(same)


def test_a_changed_item_misses_alone(made: Made) -> None:
    states_of(build())
    made.count = 0
    states, _ = states_of(build(), ["red.", *WORDS[1:]])
    assert made.count == 1 and len(states) == len(WORDS)


def test_a_file_that_is_overwritten_misses_alone(tmp_path: Path, made: Made) -> None:
    files = [str(tmp_path / f"{number}.png") for number in range(3)]
    for file, picture in zip(files, PICTURES, strict=False):
        Image.fromarray(picture).save(file)
    tower = build("small_cnn")
    first, _ = states_of(tower, files)
    made.count = 0
    Image.fromarray(PICTURES[5]).save(files[1])
    again, _ = states_of(tower, files)
    assert made.count == 1
    same = [np.array_equal(one, other) for one, other in zip(first, again, strict=True)]
    assert same == [True, False, True]


def test_the_fingerprint_leaves_the_encoder_as_it_was() -> None:
    encoder = build().encoder
    keys, whole = list(encoder.state_dict()), encoder.fingerprint()
    assert first_fingerprint(encoder, 2) != first_fingerprint(encoder, 1)
    assert list(encoder.state_dict()) == keys and encoder.fingerprint() == whole


# ---- Where they cannot be kept


class Shifted(TransformerEncoder):
    """Its first layers take something that stands behind them, and learns."""

    def fit(self, items: Any) -> None:
        super().fit(items)
        self.behind = nn.LayerNorm(16)
        self.layers()[0].register_forward_pre_hook(
            lambda _, given: (self.behind(given[0]), *given[1:])
        )


class Noisy(TransformerEncoder):
    """While it trains, a functional dropout stands before the first layer."""

    def fit(self, items: Any) -> None:
        super().fit(items)
        self.layers()[0].register_forward_pre_hook(
            lambda _, given: (
                nn.functional.dropout(given[0], 0.5, self.training),
                *given[1:],
            )
        )


class Wrong(TransformerEncoder):
    """It puts together in another order than it took apart."""

    def join_states(self, states: Any) -> Any:
        return super().join_states(states[::-1])


class Broken(TransformerEncoder):
    def join_states(self, states: Any) -> Any:
        raise NotImplementedError


@pytest.mark.parametrize("kind", [Shifted, Noisy, Wrong, Broken])
def test_layers_that_do_not_always_make_the_same_run_each_time(
    kind: type[TransformerEncoder], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_layers, "way", lambda *_: "a test's code has no file")
    tower = build().train()
    tower.encoder = kind(tower.encoder.options)
    tower.fit(WORDS)
    state, random = tower.training, torch.get_rng_state()
    states, reason = states_of(tower)
    assert reason == "transformer hands out no outputs of theirs that would stay the same"
    assert not any(isinstance(one, States) for one in states)
    assert not list(place.rglob("*.arrow"))
    assert tower.training is state and torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize("augment", [{}, {"shift": 0, "zoom": 0, "grow": 0, "flip": True}], ids=str)
def test_pictures_that_are_varied_go_through_each_time(augment: dict[str, Any]) -> None:
    states, reason = states_of(build("small_cnn", augment=augment))
    assert reason is not None and not any(isinstance(one, States) for one in states)


def test_a_disk_too_small_is_said_and_not_filled(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tower = build()
    tokens = sum(map(len, tower.encoder.prepare(WORDS)))
    takes = tokens * 16 * 4
    for left, enough in ((2 * takes, True), (2 * takes - 2, False)):
        shutil.rmtree(place, ignore_errors=True)
        feature_cache._opened.cache_clear()
        usage = SimpleNamespace(free=left)
        monkeypatch.setattr(kept_layers.shutil, "disk_usage", lambda _, usage=usage: usage)
        states, reason = states_of(tower)
        assert isinstance(states[0], States) == enough
        if not enough:
            assert reason is not None and "half may be taken; name a larger disk" in reason
            assert not list(place.rglob("*.arrow"))


def test_where_nothing_is_kept_or_can_be_written(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.write_text("a file")
    monkeypatch.setattr(feature_cache, "ENOUGH", 1)
    monkeypatch.setattr(kept_layers, "CHUNK", 2)
    with pytest.warns(UserWarning, match="not kept"):
        states, reason = states_of(build())
    assert not isinstance(states[0], States) and "cannot be written" in str(reason)
    monkeypatch.setenv("MSIAM_CACHE", "")
    states, reason = states_of(build())
    assert not isinstance(states[0], States) and "MSIAM_CACHE" in str(reason)


# ---- In a run, and after it


def recipe(towers: dict[str, Any], **train: Any) -> dict[str, Any]:
    a, b = [*towers, *towers][:2]
    return {
        "data": {"table": "given", "split": {"validation": 8}},
        "columns": {"a": a, "b": b}, "towers": towers,
        "train": {
            "batch_size": 8, "max_steps": 9, "optimizer": "sgd", "learning_rate": 0.3,
            "precision": "fp32", **train,
        },
    }  # fmt: skip


TEXTS = [f"{one} {other}" for one in WORDS for other in WORDS]
ROWS = [{"a": text, "b": f"{text} too"} for text in TEXTS]


@pytest.mark.parametrize("train", [{}, {"chunk": 3}, {"gradient_checkpointing": True}], ids=str)
def test_a_run_learns_the_same(
    train: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: Made
) -> None:
    towers = {"one": TEXT | {"freeze": 2}}
    kept = msiam.train(recipe(towers, **train), ROWS, folder=tmp_path / "kept")
    assert made.count == 2 * len(ROWS)  # once an item, for training and evaluation
    monkeypatch.setenv("MSIAM_CACHE", "")
    plain = msiam.train(recipe(towers, **train), ROWS, folder=tmp_path / "plain")
    assert made.count == 2 * len(ROWS)
    for (name, one), two in zip(
        kept.model.state_dict().items(), plain.model.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(one, two, atol=1e-4, rtol=1e-3, msg=name)


def test_what_training_made_is_there_for_mining_and_indexing(tmp_path: Path, made: Made) -> None:
    msiam.train(recipe({"one": TEXT | {"freeze": 2}}), ROWS, folder=tmp_path / "run")
    made.count = 0
    tower = msiam.load(tmp_path / "run").model.tower("one")
    found, _ = embed_items(tower, [*TEXTS, "", "new"], how=KEPT)
    assert made.count == 1
    wanted, rejected = embed_items(tower, [*TEXTS, "", "new"])
    assert made.count == 1 and [number for number, _ in rejected] == [len(TEXTS)]
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_a_tower_that_follows_reads_its_leaders_states(tmp_path: Path, made: Made) -> None:
    towers = {"one": TEXT | {"freeze": 2}, "two": {"follows": "one", "momentum": 0.5}}
    run = msiam.train(recipe(towers), ROWS, folder=tmp_path / "run")
    assert made.count == 2 * len(ROWS)
    assert run.model.tower("two").frozen == 2


def test_an_adversary_changes_pictures_and_not_states(tmp_path: Path) -> None:
    towers = {"one": KINDS["small_cnn"][0] | {"freeze": 2}}
    pictures = [np.roll(one, by, 0) for one in PICTURES for by in range(4)]
    rows = [{"a": _png(picture), "b": _png(255 - picture)} for picture in pictures]
    adversary = {"epsilon": 4, "steps": 1}
    run = msiam.train(recipe(towers, adversarial=adversary), rows, folder=tmp_path / "run")
    assert all(weight.isfinite().all() for weight in run.model.parameters())


def _png(picture: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "png")
    return file.getvalue()


def test_variants_of_a_picture_go_through_each_time() -> None:
    tower = build("small_cnn")
    tower.encoder.__class__ = type("Turned", (type(tower.encoder),), {"variants": 4})
    assert not isinstance(states_of(tower)[0][0], States)


def test_a_batch_of_states_is_of_states_alone() -> None:
    tower = build()
    states, _ = states_of(tower)
    batch = collate(tower.encoder, states)
    assert batch[STATES].shape == (sum(map(len, states)), 16)
    assert set(collate(tower.encoder, tower.encoder.prepare(WORDS))) == {
        "input_ids",
        "attention_mask",
    }
