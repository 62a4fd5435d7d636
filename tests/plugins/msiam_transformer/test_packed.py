"""Packed texts give what padded ones give, in value and in gradient; what cannot pack is padded."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from msiam_transformer import fresh, packed
from msiam_transformer.encoder import TransformerEncoder, _body

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
LENGTHS = [3, 7, 1, 3, 9, 7, 3]


def batch(lengths, padding=0):
    random = torch.Generator().manual_seed(0)
    tokens = torch.randint(3, 50, (len(lengths), max(lengths)), generator=random)
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    return tokens.where(mask.bool(), padding), mask


def model(kind, **config):
    torch.manual_seed(0)
    wanted = {"model_type": kind} | SMALL | config
    made = fresh.make_config(
        wanted, tokens=50, max_tokens=12, dropouts={"dropout": 0.0, "attention_dropout": 0.0}
    )
    return _body(fresh.make_model(made))


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12))
def test_what_is_packed_is_unpacked(lengths):
    tokens, mask = batch(lengths)
    flat, places, runs, order = packed.pack(tokens, mask)
    assert flat.shape == places.shape == (1, sum(lengths))
    assert [long for _, long in runs] == sorted(set(lengths))
    texts = [text for part in packed.unpack(flat[0], runs) for text in part]
    for text, number in zip(texts, order.tolist(), strict=True):
        assert torch.equal(text, tokens[number, : lengths[number]])
    assert torch.equal(places[0], torch.cat([torch.arange(n) for n in sorted(lengths)]))


@pytest.mark.parametrize(
    ("kind", "first"), [("bert", 0), ("roberta", 1), ("electra", 0), ("modernbert", 0)]
)
def test_packed_and_padded_agree_in_value_and_gradient(kind, first):
    made = model(kind)
    assert packed.first_place(made) == first
    tokens, mask = batch(LENGTHS)
    weight = torch.randn(sum(LENGTHS), 16)
    flat, places, runs, order = packed.pack(tokens, mask)
    results = []
    for way in ("packed", "padded"):
        made.zero_grad()
        if way == "packed":
            states = packed.run(made, flat, places + first, runs)
        else:
            padded = made(input_ids=tokens, attention_mask=mask).last_hidden_state
            states = padded[order][mask[order].bool()]
        (states * weight).sum().backward()
        grads = [p.grad.clone() for p in made.parameters() if p.grad is not None]
        results.append([states.detach(), *grads])
    assert len(results[0]) == len(results[1]) > 10
    for found, wanted in zip(*results, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("window", [2, 4, 30])
def test_texts_longer_than_a_window_are_seen_through_it(window):
    made = model("modernbert", local_attention=window, num_hidden_layers=4)
    assert packed.first_place(made) == 0
    tokens, mask = batch(LENGTHS)
    flat, places, runs, order = packed.pack(tokens, mask)
    found = packed.run(made, flat, places, runs)
    wanted = made(input_ids=tokens, attention_mask=mask).last_hidden_state[order][
        mask[order].bool()
    ]
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("lengths", [[3, 7, 9], [3, 70, 90]])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_short_texts_go_by_blocks_and_so_do_long_ones_with_dropout(lengths, dropout):
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 1, 2, sum(lengths), 4, requires_grad=True)
    sealed = packed.Sealed([(1, long) for long in lengths])
    found, _ = packed.attend(torch.nn.Module(), query, key, value, None, sealed, dropout=dropout)
    by_blocks = "Attention" in str(found.grad_fn.next_functions)
    assert by_blocks == (dropout > 0 or max(lengths) <= packed.SHORT)


@pytest.mark.parametrize("kind", ["gpt2", "mpnet", "t5"])
def test_a_model_that_cannot_be_packed_is_padded(kind):
    made = model(kind)
    before = made.config._attn_implementation
    assert packed.first_place(made) is None
    assert made.config._attn_implementation == before


def test_the_encoder_packs_and_runs_over_real_tokens_alone():
    encoder = TransformerEncoder(TransformerEncoder.Options(config=SMALL, vocabulary=300))
    encoder.fit(["one two three", "a much longer text than the other one"] * 3)
    assert encoder._first_place == 0
    seen = []
    encoder.model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["input_ids"].shape), with_kwargs=True
    )
    features = encoder.prepare(["one", "a much longer text", "two three"])
    encoder(encoder.collate(features))
    count = sum(len(feature) for feature in features)
    assert seen == [(1, packed.ROWS)] and count < packed.ROWS


def test_layers_see_few_numbers_of_rows():
    made = model("bert")
    assert packed.first_place(made) == 0
    seen = set()
    made.register_forward_pre_hook(
        lambda module, args, kwargs: seen.add(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    for long in range(1, 11):
        tokens, mask = batch([long] * 7)
        flat, places, runs, _ = packed.pack(tokens, mask)
        assert len(packed.run(made, flat, places, runs)) == 7 * long
    assert seen == {32, 64, 96}


def test_attention_stays_in_float32_under_autocast():
    made = model("bert")
    packed.first_place(made)
    tokens, mask = batch(LENGTHS)
    flat, places, runs, _ = packed.pack(tokens, mask)
    plain = packed.run(made, flat, places, runs)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = packed.run(made, flat, places, runs)
    similarity = torch.nn.functional.cosine_similarity(plain.float(), mixed.float(), dim=1)
    assert similarity.min() > 0.999
