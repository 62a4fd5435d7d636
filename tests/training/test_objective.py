"""The whole objective, from rows to the gradients of towers and loss, all at once and in chunks."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from training.chunked import LSTM, TRANSFORMER, assert_equal, grads, one_pass, texts

import msiam
from msiam.data.batches import Collator
from msiam.data.examples import Examples
from msiam.data.items import Items
from msiam.data.sources import open_table
from msiam.losses.base import Targets
from msiam.towers.encoder import Batch
from msiam.training import objective as objectives
from msiam.training.objective import Objective, build_loss

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


def test_a_loss_is_given_the_columns_in_the_recipes_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever towers they go through: by that order a negative is told from a positive."""
    objective, collate = whole(WHOLE["unshared"][0], {"a": "two", "b": "one"})
    seen = []

    def watch(loss: nn.Module, embeddings: dict[str, Tensor], targets: Targets) -> Tensor:
        seen.extend(embeddings)
        return next(iter(embeddings.values())).sum()

    monkeypatch.setattr(objectives, "global_loss", watch)
    objective(**collate(None))
    assert seen == ["a", "b"]


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
