"""Packed texts on a GPU. Where there is none, a plain form stands in for the kernel."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from msiam_transformer import packed, varlen
from msiam_transformer.encoder import TransformerEncoder

HEADS, WIDTH = 4, 8
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


def plain(q, k, v, q_ends, k_ends, q_longest, k_longest, *, scale, window_size, enable_gqa):
    """What the kernel does, a text at a time."""
    assert torch.equal(q_ends, k_ends) and q_ends.dtype == torch.int32
    assert int(q_ends.diff().max()) <= q_longest == k_longest and int(q_ends[-1]) == len(q)
    found = []
    for start, end in zip(q_ends[:-1].tolist(), q_ends[1:].tolist(), strict=True):
        states = (part[start:end].transpose(0, 1)[None] for part in (q, k, v))
        places = torch.arange(end - start)
        apart = (places[:, None] - places).abs()
        seen = None if window_size == (-1, -1) else apart <= window_size[0]
        part = torch.nn.functional.scaled_dot_product_attention(
            *states, attn_mask=seen, scale=scale, enable_gqa=enable_gqa
        )
        found.append(part[0].transpose(0, 1))
    return torch.cat(found)


@pytest.fixture
def kernel(monkeypatch):
    monkeypatch.setattr(varlen, "varlen_attn", plain)


def mask_of(lengths):
    return (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()


@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=8),
    window=st.sampled_from([None, 1, 3, 20]),
)
def test_it_attends_as_packing_on_a_cpu_does(lengths, window):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(varlen, "varlen_attn", plain)
        lengths = sorted(lengths)  # as packing on a CPU lays them
        states = torch.randn(3, 1, HEADS, sum(lengths), WIDTH)
        of_two = states[0], states[1, :, :2], states[2, :, :2]  # heads that share keys
        runs = [(lengths.count(long), long) for long in sorted(set(lengths))]
        ends = varlen.Ends(mask_of(lengths), torch.float32)
        module = torch.nn.Module()
        found, _ = packed.attend(module, *states, None, ends, sliding_window=window)
        wanted, _ = packed.attend(module, *states, None, packed.Sealed(runs), sliding_window=window)
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)
        shared, _ = packed.attend(module, *of_two, None, ends, sliding_window=window)
        repeated = [of_two[0], *(part.repeat_interleave(2, 1) for part in of_two[1:])]
        wanted, _ = packed.attend(module, *repeated, None, ends, sliding_window=window)
        torch.testing.assert_close(shared, wanted, atol=1e-5, rtol=1e-4)


@pytest.fixture
def encoder():
    config = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(0)
    made = TransformerEncoder(TransformerEncoder.Options(config=config, vocabulary=300))
    made.fit(["one two three", "a much longer text than the other one"] * 3)
    return made.eval()


TEXTS = ["a much longer text", "one", "two three", "one two three than the other"]


def test_a_batch_comes_to_the_vectors_and_gradients_of_a_padded_one(encoder, kernel):
    batch = encoder.collate(encoder.prepare(TEXTS))
    tokens, mask = batch["input_ids"], batch["attention_mask"]
    results = []
    for pooling in ("mean", "cls", "max", "last"):
        encoder._pooling = pooling
        for vectors in (
            encoder._forward_on_gpu(tokens, mask, torch.float32),
            encoder(batch),
        ):
            encoder.zero_grad()
            vectors.square().sum().backward()
            grads = [p.grad.clone() for p in encoder.parameters() if p.grad is not None]
            results.append([vectors.detach(), *grads])
        for found, wanted in zip(*results[-2:], strict=True):
            torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


def test_a_device_without_the_kernel_is_told_by_trying(kernel, monkeypatch):
    cpu = torch.device("cpu")
    varlen.works.cache_clear()
    assert varlen.works(cpu, torch.bfloat16)
    for wrong in (lambda *given, **named: plain(*given, **named) * 1.5, lambda: None):
        monkeypatch.setattr(varlen, "varlen_attn", wrong)
        varlen.works.cache_clear()
        assert not varlen.works(cpu, torch.bfloat16)
    varlen.works.cache_clear()


def test_it_is_for_half_precision():
    cpu = torch.device("cpu")
    assert varlen.half_of(cpu, torch.float32) is None
    assert varlen.half_of(cpu, torch.float16) == torch.float16
    with torch.autocast("cpu", torch.bfloat16):
        assert varlen.half_of(cpu, torch.float32) == torch.bfloat16


@GPU
def test_on_a_gpu_batches_in_bf16_are_packed_and_come_to_the_same(encoder):
    encoder.cuda()
    batch = {n: t.cuda() for n, t in encoder.collate(encoder.prepare(TEXTS)).items()}
    wanted = encoder(batch)
    seen = []
    encoder.model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["input_ids"].shape), with_kwargs=True
    )
    with torch.autocast("cuda", torch.bfloat16):
        found = encoder(batch)
    assert seen == [(1, int(batch["attention_mask"].sum()))]
    cosines = torch.nn.functional.cosine_similarity(found, wanted)
    assert cosines.min() > 0.999
