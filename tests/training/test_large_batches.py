"""Two passes over chunks: the gradient of one pass, at the memory of one chunk."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from training.chunked import CNN, LSTM, TOWERS, assert_equal, build, chunked, grads, one_pass

from msiam.towers.encoder import Batch
from msiam.training.large_batches import embed_chunks


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
