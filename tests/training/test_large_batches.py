"""Two passes over chunks: the gradient of one pass, at the memory of one chunk."""

import copy
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import msiam
from msiam.data.batches import Collator
from msiam.data.examples import Examples
from msiam.data.items import Items
from msiam.data.sources import open_table
from msiam.losses.base import Targets
from msiam.towers.encoder import Batch
from msiam.training import objective as objectives
from msiam.training.large_batches import embed_chunks
from msiam.training.objective import Objective, build_loss

WORDS = ["red", "green", "blue", "cat", "dog", "house", "boat", "tree", "where", "is", "the", "a"]
LSTM = {"encoder": "lstm", "dim": 8, "hidden": 8, "embedding": 8, "min_count": 1}
TRANSFORMER = {
    "encoder": "transformer", "dim": 8, "vocabulary": 280, "config": {
        "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16
    },
}  # fmt: skip
CNN = {"encoder": "small_cnn", "dim": 8, "size": 32, "width": 4, "head": "mlp"}
VARIED = {"rotate": 20, "flip": True, "colour": 0.3, "erase": 0.5}
TOWERS = {
    "lstm": LSTM | {"dropout": 0.4, "word_dropout": 0.2, "layers": 2, "head": "mlp"},
    "lstm, attention": LSTM | {"dropout": 0.0, "pooling": "attention"},
    "transformer": TRANSFORMER | {"dropout": 0.3},
    "transformer, dropout in attention": TRANSFORMER | {"attention_dropout": 0.3},
    "small_cnn": CNN | {"augment": VARIED},
    "frozen": LSTM | {"freeze": True, "head": "mlp"},
}


def texts(n: int) -> list[str]:
    draw = random.Random(0)
    return [" ".join(draw.choices(WORDS, k=draw.randint(1, 9))) for _ in range(n)]


def pictures(n: int) -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (n, 32, 32, 3), dtype=np.uint8))


def items_for(tower: msiam.Tower, n: int) -> list[Any]:
    return pictures(n) if tower.encoder.modality == "image" else texts(n)


def build(options: dict[str, Any]) -> msiam.Tower:
    torch.manual_seed(0)
    tower = msiam.Tower(options["encoder"], **{k: v for k, v in options.items() if k != "encoder"})
    tower.fit(items_for(tower, 20))
    return tower.train()


def chunked(tower: msiam.Tower, n: int, size: int) -> list[Batch]:
    features = tower.encoder.prepare(items_for(tower, n))
    return [tower.encoder.collate(features[at : at + size]) for at in range(0, n, size)]


def one_pass(tower: nn.Module, chunks: Sequence[Batch]) -> Tensor:
    """The same chunks, each with its gradient at once."""
    return torch.cat([tower(chunk) for chunk in chunks])


def grads(
    module: nn.Module, cost: Callable[[], Tensor], seed: int = 1
) -> tuple[Tensor, dict[str, Tensor | None]]:
    """A cost and the gradient of each parameter, of a module that stays as it was."""
    module.zero_grad()
    torch.manual_seed(seed)
    value = cost()
    value.backward()
    return value.detach(), {name: p.grad for name, p in module.named_parameters()}


def assert_equal(found: dict[str, Tensor | None], wanted: dict[str, Tensor | None]) -> None:
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        if gradient is None:
            assert found[name] is None, name
        else:
            torch.testing.assert_close(found[name], gradient, atol=1e-5, rtol=1e-5, msg=name)
    assert any(g is not None and g.abs().max() > 1e-3 for g in wanted.values())


@pytest.mark.parametrize("kind", TOWERS)
def test_the_gradient_of_one_pass(kind: str) -> None:
    tower = build(TOWERS[kind])
    chunks = chunked(tower, 18, 4)
    weights = torch.randn(18, tower.dim)

    def cost(embed: Callable[..., Tensor]) -> Callable[[], Tensor]:
        return lambda: (embed(tower, chunks) * weights).exp().sum()

    value, found = grads(tower, cost(embed_chunks))
    plain, wanted = grads(tower, cost(one_pass))
    torch.testing.assert_close(value, plain)
    assert_equal(found, wanted)
    other, _ = grads(tower, cost(one_pass), seed=2)
    assert (other != plain) == (kind != "lstm, attention")  # in all others, dropout or more


def test_padded_texts_of_a_transformer(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU."""
    tower = build(TOWERS["transformer"])
    monkeypatch.setattr(tower.encoder, "_first_place", None)
    chunks = chunked(tower, 10, 3)
    _, found = grads(tower, lambda: embed_chunks(tower, chunks)[:, 0].exp().sum())
    _, wanted = grads(tower, lambda: one_pass(tower, chunks)[:, 0].exp().sum())
    assert_equal(found, wanted)


@pytest.mark.parametrize("dtype", [torch.bfloat16, None])
def test_mixed_precision_is_that_of_the_first_pass(dtype: torch.dtype | None) -> None:
    """Backward runs outside of autocast, and autocast keeps no weights without gradient."""
    tower = build(TOWERS["lstm"])
    chunks = chunked(tower, 9, 4)

    def cost(embed: Callable[..., Tensor]) -> Callable[[], Tensor]:
        def run() -> Tensor:
            with torch.autocast("cpu", dtype, enabled=dtype is not None):
                first = embed(tower, chunks)
                return first.square().sum() + tower(chunks[0])[:, 0].exp().sum()

        return run

    value, found = grads(tower, cost(embed_chunks))
    plain, wanted = grads(tower, cost(one_pass))
    torch.testing.assert_close(value, plain)
    assert_equal(found, wanted)


def test_batch_norm_sees_each_chunk_once() -> None:
    tower = build(CNN)
    twin = copy.deepcopy(tower)
    chunks = chunked(tower, 10, 4)
    grads(tower, lambda: embed_chunks(tower, chunks).exp().sum())
    grads(twin, lambda: one_pass(twin, chunks).exp().sum())
    statistics = dict(twin.named_buffers())
    assert any(name.endswith("running_var") for name in statistics)
    for name, buffer in tower.named_buffers():
        assert torch.equal(buffer, statistics[name]), name
    norms = [m for m in tower.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(norm.num_batches_tracked == 3 and norm.track_running_stats for norm in norms)


class Normed(nn.Module):
    """Vectors (n, 3) as signals of a channel, weighted and normalised."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3))
        self.norm = norm

    def forward(self, batch: Batch) -> Tensor:
        return self.norm((batch["vectors"] * self.weight)[:, None])[:, 0]


@pytest.mark.parametrize("kind", [nn.BatchNorm1d, nn.InstanceNorm1d])
def test_a_norm_that_does_not_train_keeps_to_its_statistics(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    tower = Normed(kind(1, track_running_stats=True))
    tower.norm.eval()
    chunks = [{"vectors": torch.randn(4, 3)} for _ in range(3)]
    _, found = grads(tower, lambda: embed_chunks(tower, chunks).exp().sum())
    _, wanted = grads(tower, lambda: one_pass(tower, chunks).exp().sum())
    assert_equal(found, wanted)


def test_what_is_drawn_after_a_step_is_as_after_one_pass() -> None:
    tower = build(TOWERS["small_cnn"])
    chunks = chunked(tower, 8, 3)

    def drawn(embed: Callable[..., Tensor]) -> Tensor:
        """By a loss that draws as well, and behind it."""
        grads(tower, lambda: (embed(tower, chunks)[:, 0].exp() * torch.rand(8)).sum())
        return torch.rand(5)

    assert torch.equal(drawn(embed_chunks), drawn(one_pass))


def test_gradients_of_several_steps_add_up() -> None:
    tower = build(LSTM)
    chunks = chunked(tower, 9, 4)

    def twice(embed: Callable[..., Tensor]) -> dict[str, Tensor | None]:
        grads(tower, lambda: embed(tower, chunks).exp().sum())
        embed(tower, chunks[::-1]).square().sum().backward()
        return {name: p.grad for name, p in tower.named_parameters()}

    assert_equal(twice(embed_chunks), twice(one_pass))


class Shift(nn.Module):
    """Its parameter's gradient is its output's itself, and no copy."""

    def __init__(self) -> None:
        super().__init__()
        self.by = nn.Parameter(torch.zeros(4, 3))

    def forward(self, batch: Batch) -> Tensor:
        return batch["vectors"] + self.by


def test_a_gradient_that_is_another_tensor_s_memory_is_left_alone() -> None:
    tower, chunks = Shift(), [{"vectors": torch.randn(4, 3)} for _ in range(3)]
    _, found = grads(tower, lambda: embed_chunks(tower, chunks).sum())
    assert found["by"] is not None and found["by"].eq(3).all()


def test_weights_that_changed_in_between_are_an_error() -> None:
    tower = build(LSTM)
    embeddings = embed_chunks(tower, chunked(tower, 9, 4))
    with torch.no_grad():
        next(tower.parameters()).add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        embeddings.sum().backward()


def test_without_gradient_there_is_none() -> None:
    tower = build(LSTM)
    with torch.no_grad():
        assert not embed_chunks(tower, chunked(tower, 9, 4)).requires_grad
    frozen = build(LSTM | {"freeze": True, "head": "none", "dim": 16})
    assert not embed_chunks(frozen, chunked(frozen, 9, 4)).requires_grad


class Live:
    """Counts the bytes that autograd keeps for backward, and the most there ever were."""

    def __init__(self) -> None:
        self.now = self.most = 0

    def __enter__(self) -> "Live":
        self.hooks = torch.autograd.graph.saved_tensors_hooks(
            lambda tensor: Kept(self, tensor), lambda kept: kept.tensor
        )
        self.hooks.__enter__()
        return self

    def __exit__(self, *failure: Any) -> None:
        self.hooks.__exit__(*failure)


class Kept:
    """A saved tensor. A parameter is there anyhow."""

    def __init__(self, live: Live, tensor: Tensor) -> None:
        self.live, self.tensor = live, tensor
        self.size = 0 if tensor.is_leaf and tensor.requires_grad else tensor.nbytes
        live.now += self.size
        live.most = max(live.most, live.now)

    def __del__(self) -> None:
        self.live.now -= self.size


@pytest.mark.parametrize("kind", ["lstm", "transformer", "small_cnn"])
def test_activations_do_not_grow_with_the_batch(kind: str) -> None:
    tower = build(TOWERS[kind])
    few = chunked(tower, 4, 4)

    def kept(embed: Callable[..., Tensor], times: int) -> int:
        tower.zero_grad()
        with Live() as live:
            embeddings = embed(tower, few * times)
            forward = live.now
            embeddings.sum().backward()
        assert embed is one_pass or forward == 0
        return live.most

    assert kept(embed_chunks, 12) <= 1.05 * kept(one_pass, 1)
    assert kept(one_pass, 12) > 11 * kept(one_pass, 1)


# The whole objective, from rows to the gradients of towers and loss.

ROWS = [{"a": a, "b": b} for a, b in zip(texts(24), texts(30)[6:], strict=True)]


def whole(
    towers: dict[str, dict[str, Any]], columns: dict[str, str], loss: str = "infonce"
) -> tuple[Objective, Callable[[int | None], dict[str, Any]]]:
    """A model of texts, and a function from a chunk's size to the collated batch of all ROWS."""
    torch.manual_seed(0)
    model = msiam.Model(towers, columns)
    items, numbers = {}, {}
    for name in model.towers:
        own = [column for column, tower in columns.items() if tower == name]
        items[name] = Items.collect({"t": open_table(ROWS)}, own, name, model.encoders[name])
        model.tower(name).fit(items[name].values)
        items[name].prepare(model.encoders[name])
        numbers |= {column: items[name].numbers["t", column] for column in own}
    examples = Examples.build(numbers, model.columns)
    recipe = msiam.Recipe.parse(
        {"data": {"table": "x"}, "columns": columns, "towers": towers, "loss": loss}
    )
    objective = Objective(model, build_loss(recipe.loss, model, recipe.data.targets)).train()

    def collate(chunk: int | None) -> dict[str, Any]:
        collator = Collator(examples, model.columns, items, model.encoders, chunk)
        return collator(range(len(ROWS)))

    return objective, collate


WHOLE = {
    "shared": ({"one": LSTM | {"dropout": 0.0}}, {"a": "one", "b": "one"}),
    "unshared": (
        {"one": LSTM | {"dropout": 0.0}, "two": TRANSFORMER | {"dropout": 0.0}},
        {"a": "one", "b": "two"},
    ),
    "frozen": (
        {"one": LSTM | {"freeze": True}, "two": LSTM | {"dropout": 0.0}},
        {"a": "one", "b": "two"},
    ),
}


@pytest.fixture(scope="module", params=WHOLE)
def task(request: pytest.FixtureRequest) -> Iterator[Any]:
    yield whole(*WHOLE[request.param])


@settings(max_examples=12)
@given(chunk=st.integers(1, 60))
def test_any_size_of_chunk_gives_the_gradient_of_the_batch(task: Any, chunk: int) -> None:
    """Where nothing is left to chance, of the batch as a whole."""
    objective, collate = task
    value, found = grads(objective, lambda: objective(**collate(chunk))["loss"])
    plain, wanted = grads(objective, lambda: objective(**collate(None))["loss"])
    torch.testing.assert_close(value, plain)
    assert_equal(found, wanted)


@pytest.mark.parametrize("loss", ["infonce", "triplet", "sigmoid"])
def test_towers_that_share_parameters(loss: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tied weights have the sum of both towers' gradients, and dropout is that of each tower."""
    options = LSTM | {"dropout": 0.3}
    objective, collate = whole({"one": options, "two": options}, {"a": "one", "b": "two"}, loss)
    one, two = (objective.model.tower(name) for name in ("one", "two"))
    two.encoder.reader = one.encoder.reader
    batch = collate(5)
    assert len(batch["batches"]["one"]) > 2 < len(batch["batches"]["two"])
    _, found = grads(objective, lambda: objective(**batch)["loss"])
    monkeypatch.setattr(objectives, "embed_chunks", one_pass)
    _, wanted = grads(objective, lambda: objective(**batch)["loss"])
    assert_equal(found, wanted)


def test_the_loss_is_of_the_whole_batch() -> None:
    objective, collate = whole(*WHOLE["unshared"])
    batch = collate(7)
    with torch.no_grad():
        by_column = {
            column: one_pass(objective.model.tower(tower), batch["batches"][tower])[
                batch["index"][column]
            ]
            for column, tower in objective.model.columns.items()
        }
        wanted = objective.loss(by_column, Targets(batch["groups"]))
    torch.testing.assert_close(objective(**batch)["loss"].detach(), wanted)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_run_in_chunks_is_a_run(
    precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With each chunk's gradient at once it learns the same, to the last digits."""

    def train(folder: str) -> np.ndarray:
        towers = {"one": TRANSFORMER | {"dropout": 0.2}, "two": LSTM | {"dropout": 0.2}}
        recipe = {
            "data": {"table": "given"}, "columns": {"a": "one", "b": "two"}, "towers": towers,
            "train": {
                "batch_size": 16, "chunk": 5, "max_steps": 6, "evaluations": 1,
                "precision": precision,
            },
        }  # fmt: skip
        rows = [{"a": a, "b": b} for a, b in zip(texts(80), texts(200)[120:], strict=True)]
        run = msiam.train(recipe, rows, folder=tmp_path / folder)
        embeddings = run.model.encode({"a": texts(5), "b": texts(5)})
        return np.concatenate(list(embeddings.values()))

    called = []

    def counted(tower: nn.Module, chunks: Sequence[Batch]) -> Tensor:
        called.append(len(chunks))
        return one_pass(tower, chunks)

    two_passes = train("two")
    monkeypatch.setattr(objectives, "embed_chunks", counted)
    np.testing.assert_allclose(train("one"), two_passes, atol=1e-4 if precision == "fp32" else 1e-2)
    assert len(called) == 12 and min(called) > 1
