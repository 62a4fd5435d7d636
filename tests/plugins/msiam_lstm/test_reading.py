"""The network: the same as PyTorch's own on packed texts, and untouched by padding."""

from __future__ import annotations

import pytest
import torch
from msiam_lstm.reading import Pooling, Reader
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

LENGTHS = torch.tensor([5, 1, 7, 3])


@pytest.fixture
def words():
    torch.manual_seed(0)
    return torch.randn(4, 7, 6)


def packed(reader, words):
    """PyTorch's bidirectional LSTM on packed texts, with the reader's weights."""
    layers, both = len(reader.onward), len(reader.backward_) > 0
    theirs = nn.LSTM(6, 5, layers, batch_first=True, bidirectional=both)
    weights = {}
    for layer in range(layers):
        for name, value in reader.onward[layer].named_parameters():
            weights[name.replace("l0", f"l{layer}")] = value
        for name, value in reader.backward_[layer].named_parameters() if both else ():
            weights[f"{name.replace('l0', f'l{layer}')}_reverse"] = value
    theirs.load_state_dict(weights)
    states, _ = theirs(pack_padded_sequence(words, LENGTHS, True, enforce_sorted=False))
    return pad_packed_sequence(states, batch_first=True)[0]


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("both", [True, False])
def test_equals_packed_lstm_in_value_and_gradient(words, layers, both):
    reader = Reader(6, 5, layers, both)
    real = (torch.arange(7) < LENGTHS[:, None])[..., None]
    results = []
    for run in (lambda x: reader(x, LENGTHS), lambda x: packed(reader, x)):
        x = words.clone().requires_grad_()
        states = run(x) * real
        (states.sin().sum()).backward()
        results.append((states.detach(), x.grad))
    (ours, our_gradient), (theirs, their_gradient) = results
    assert reader.dim == ours.shape[-1] == (10 if both else 5)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
    torch.testing.assert_close(our_gradient, their_gradient, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["max", "mean", "last", "attention"])
def test_pooling_equals_pooling_text_by_text(words, kind):
    pooling = Pooling(kind, 6, bidirectional=True)
    expected = []
    for text, length in zip(words, LENGTHS, strict=True):
        text = text[:length]
        if kind == "max":
            expected.append(text.max(0).values)
        elif kind == "mean":
            expected.append(text.mean(0))
        elif kind == "last":
            expected.append(torch.cat([text[-1, :3], text[0, 3:]]))
        else:
            expected.append((pooling.score(text).softmax(0) * text).sum(0))
    torch.testing.assert_close(pooling(words, LENGTHS), torch.stack(expected))


def test_the_last_state_of_one_direction_is_the_last_words(words):
    pooled = Pooling("last", 6, bidirectional=False)(words, LENGTHS)
    assert torch.equal(pooled, words[torch.arange(4), LENGTHS - 1])


@pytest.mark.parametrize("kind", ["max", "mean", "last", "attention"])
def test_padding_passes_nothing_on_in_either_direction(words, kind):
    reader, pooling = Reader(6, 5, 2, True), Pooling(kind, 10, True)
    other = words.clone()
    other[torch.arange(7) >= LENGTHS[:, None]] = 1e4
    vectors = [pooling(reader(x, LENGTHS), LENGTHS) for x in (words, other)]
    assert torch.equal(*vectors)
