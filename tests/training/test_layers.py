"""Layers compiled, or computed twice: the same gradients, in a run that is none the wiser."""

import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import msiam
from msiam.errors import RecipeError
from msiam.recipe import Train
from msiam.training.large_batches import embed_chunks
from msiam.training.layers import check_layers, equipped
from msiam.training.trainer import Trainer

CONFIG = {
    "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24
}  # fmt: skip
TEXT = {"encoder": "transformer", "dim": 8, "vocabulary": 280, "dropout": 0.0, "config": CONFIG}
LSTM = {"encoder": "lstm", "dim": 8, "hidden": 8, "embedding": 8, "min_count": 1}
KINDS = {
    "packed": TEXT,
    "padded": TEXT | {"pooling": "cls"},
    "small_cnn": {"encoder": "small_cnn", "dim": 8, "size": 32, "width": 4, "augment": False},
}
SWITCHES = [
    {"compile": True},
    {"gradient_checkpointing": True},
    {"compile": True, "gradient_checkpointing": True},
]
ids = " and ".join
WORDS = ["red", "green", "blue", "cat", "dog", "house", "boat", "tree", "where", "is", "the", "a"]


def texts(n: int) -> list[str]:
    draw = random.Random(0)
    return [" ".join(draw.choices(WORDS, k=draw.randint(1, 9))) for _ in range(n)]


def pictures(n: int) -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (n, 32, 32, 3), dtype=np.uint8))


def grads(module: nn.Module, cost: Callable[[], Tensor]) -> tuple[Tensor, dict[str, Tensor | None]]:
    module.zero_grad()
    torch.manual_seed(1)
    value = cost()
    value.backward()
    return value.detach(), {name: p.grad for name, p in module.named_parameters()}


def assert_equal(found: dict[str, Tensor | None], wanted: dict[str, Tensor | None]) -> None:
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        assert gradient is not None and found[name] is not None
        torch.testing.assert_close(found[name], gradient, atol=1e-4, rtol=1e-3, msg=name)
    assert any(g is not None and g.abs().max() > 1e-3 for g in wanted.values())


@pytest.fixture(autouse=True)
def _compiled_anew() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def build(options: dict[str, Any]) -> msiam.Model:
    torch.manual_seed(0)
    model = msiam.Model({"one": options}, {"a": "one", "b": "one"})
    model.tower("one").fit(texts(30))
    return model.train()


def batches(model: msiam.Model) -> list[dict[str, torch.Tensor]]:
    """Of different sizes."""
    encoder = model.encoders["one"]
    features = encoder.prepare(pictures(26) if encoder.modality == "image" else texts(26))
    return [encoder.collate(features[start:stop]) for start, stop in ((0, 5), (3, 18), (17, 26))]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("switches", SWITCHES, ids=ids)
def test_gradients_are_the_same(
    kind: str, switches: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, other = build(KINDS[kind]), build(KINDS[kind])
    if kind == "padded":  # as on a GPU
        for one in (model, other):
            monkeypatch.setattr(one.encoders["one"], "_first_place", None)
    assert check_layers(model, Train(**switches)) == []
    weight = torch.randn(8)

    def step(model: msiam.Model, batch: dict[str, Tensor]) -> tuple[Tensor, Any]:
        tower = model.tower("one")
        return grads(tower, lambda: (tower(batch) @ weight).exp().sum())

    for batch in batches(model):
        value, wanted = step(other, batch)
        with equipped(model, Train(**switches)):
            equal, found = step(model, batch)
        torch.testing.assert_close(equal, value)
        assert_equal(found, wanted)
    for (name, one), two in zip(
        model.state_dict().items(), other.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(one, two, msg=name)  # batch norms have learnt once a batch


@pytest.mark.parametrize("chunk", [26, 4])
def test_what_is_computed_twice_drops_out_alike(chunk: int) -> None:
    model = build(TEXT | {"dropout": 0.4, "attention_dropout": 0.2})
    tower = model.tower("one")
    features = tower.encoder.prepare(texts(26))
    chunks = [tower.encoder.collate(features[at : at + chunk]) for at in range(0, 26, chunk)]
    cost = lambda: embed_chunks(tower, chunks)[:, 0].exp().sum()  # noqa: E731
    value, wanted = grads(tower, cost)
    with equipped(model, Train(gradient_checkpointing=True)):
        equal, found = grads(tower, cost)
    torch.testing.assert_close(equal, value)
    assert_equal(found, wanted)


def test_layers_that_are_alike_are_compiled_once_for_any_batch() -> None:
    model = build(TEXT)
    tower = model.tower("one")
    features = tower.encoder.prepare(texts(90))
    with equipped(model, Train(compile=True)):
        for start, stop in ((0, 7), (3, 60), (7, 9), (11, 50), (31, 90), (2, 81), (5, 17)):
            tower(tower.encoder.collate(features[start:stop])).sum().backward()
            if start == 3:
                before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    after = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert 0 < before == after


def test_afterwards_and_in_evaluation_layers_run_as_ever() -> None:
    model = build(TEXT)
    tower = model.tower("one")
    layers = tower.encoder.layers()
    keys = list(model.state_dict())
    batch = batches(model)[0]
    wanted = model.eval().tower("one")(batch)
    with equipped(model, Train(compile=True)):
        assert all("forward" in vars(layer) for layer in layers)
        assert list(model.state_dict()) == keys
        before = dict(torch._dynamo.utils.counters["stats"])
        assert torch.equal(tower(batch), wanted)
        assert torch._dynamo.utils.counters["stats"] == before
    assert not any("forward" in vars(layer) for layer in layers)


def test_less_is_kept_for_backward() -> None:
    model = build(TEXT | {"config": CONFIG | {"num_hidden_layers": 8, "hidden_size": 64}})
    tower = model.tower("one")
    batch = tower.encoder.collate(tower.encoder.prepare(texts(200)))

    def kept(settings: Train) -> int:
        """The most memory that a step takes on top of what there is."""
        with equipped(model, settings), torch.profiler.profile(profile_memory=True) as profile:
            tower.zero_grad()
            tower(batch).sum().backward()
        now = most = 0
        for event in profile.profiler.kineto_results.events():
            if event.name() == "[memory]":
                now += event.nbytes()
                most = max(most, now)
        return most

    kept(Train())
    assert kept(Train(gradient_checkpointing=True)) < 0.5 * kept(Train())


def recipe(towers: dict[str, Any], **train: Any) -> dict[str, Any]:
    a, b = [*towers, *towers][:2]
    return {
        "data": {"table": "given"}, "columns": {"a": a, "b": b}, "towers": towers,
        "train": {"batch_size": 16, "max_steps": 12, "learning_rate": 3e-3, **train},
    }  # fmt: skip


ROWS = [{"a": a, "b": f"{a} {b}"} for a, b in zip(texts(80), texts(80), strict=True)]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("switches", SWITCHES, ids=ids)
def test_a_run_learns_the_same_and_loads(
    switches: dict[str, bool], precision: str, tmp_path: Path
) -> None:
    towers = {"one": TEXT}
    run = msiam.train(
        recipe(towers, precision=precision, **switches), ROWS, folder=tmp_path / "with"
    )
    plain = msiam.train(recipe(towers, precision=precision), ROWS, folder=tmp_path / "without")
    assert list(run.model.state_dict()) == list(plain.model.state_dict())
    assert not any("_orig_mod" in name for name in run.model.state_dict())
    items = {"a": texts(5)}
    found = msiam.load(tmp_path / "with").model.encode(items)["a"]
    np.testing.assert_array_equal(found, run.model.encode(items)["a"])
    close = 1e-3 if precision == "fp32" else 0.1
    np.testing.assert_allclose(found, plain.model.encode(items)["a"], atol=close)


@pytest.mark.parametrize("key", ["compile", "gradient_checkpointing"])
def test_an_encoder_without_layers(key: str) -> None:
    model = msiam.Model({"one": LSTM, "two": TEXT}, {"a": "one", "b": "two"})
    for name in model.towers:
        model.tower(name).fit(texts(9))
    lines = check_layers(model, Train(**{key: True}))
    assert lines == [f"tower one: its encoder lstm names no layers; it trains without train.{key}"]
    assert check_layers(model, Train()) == []
    with pytest.raises(RecipeError, match=rf"train\.{key}: no encoder has layers .*\(lstm\)"):
        check_layers(build(LSTM), Train(**{key: True}))
    with pytest.raises(RecipeError, match="none learns"):
        check_layers(build(TEXT | {"freeze": True}), Train(**{key: True}))


@pytest.mark.parametrize(
    "name", ["adamw_torch", "adamw_torch_fused", "adafactor", "sgd", "adagrad", "rmsprop"]
)
def test_an_optimizer_learns_and_its_run_loads(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rate = {"sgd": 0.5, "adagrad": 0.03}.get(name, 3e-3)
    losses: list[float] = []
    compute = Trainer.compute_loss

    def noted(*args: Any, **kwargs: Any) -> Any:
        loss = compute(*args, **kwargs)
        losses.append(loss.item())
        return loss

    monkeypatch.setattr(Trainer, "compute_loss", noted)
    wanted = recipe({"one": TEXT}, optimizer=name, learning_rate=rate, max_steps=30)
    run = msiam.train(wanted, ROWS, folder=tmp_path / "run")
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    found = msiam.load(tmp_path / "run").model.encode({"a": texts(5)})["a"]
    np.testing.assert_array_equal(found, run.model.encode({"a": texts(5)})["a"])


def test_fused_is_as_not_fused(tmp_path: Path) -> None:
    found = []
    for name in ("adamw_torch", "adamw_torch_fused"):
        run = msiam.train(recipe({"one": TEXT}, optimizer=name), ROWS, folder=tmp_path / name)
        found.append(run.model.encode({"a": texts(5)})["a"])
    np.testing.assert_allclose(*found, atol=5e-3)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("adamw_torch_fuse", "there is no 'adamw_torch_fuse'; did you mean 'adamw_torch_fused'"),
        ("lomo", "there is no 'lomo'"),
        ("adamw_torch_npu_fused", "cannot be had here"),
    ],
)
def test_an_optimizer_that_is_not_there(name: str, line: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=f"train.optimizer: .*{line}") as error:
        msiam.train(recipe({"one": TEXT}, optimizer=name), ROWS, folder=tmp_path / "run")
    assert "\n" not in str(error.value)


def test_without_a_compiler_it_is_refused_in_one_line(tmp_path: Path) -> None:
    code = "from msiam.training.layers import _check_compiler; _check_compiler()"
    missing = {"CXX": "no-such-compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    found = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | missing, capture_output=True, text=True
    )
    last = found.stderr.strip().splitlines()[-1]
    assert found.returncode == 1 and "train.compile: PyTorch cannot compile on this machine" in last
    assert "leave train.compile out" in last
