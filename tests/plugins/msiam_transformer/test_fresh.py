"""A fresh model: its byte pairs, its configuration, and what is refused."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from msiam_transformer import fresh
from msiam_transformer.encoder import TransformerEncoder

from msiam import errors

KEPT = {"dropout": None, "attention_dropout": None}


def config(wanted, **dropouts):
    return fresh.make_config(wanted, tokens=50, max_tokens=12, dropouts=KEPT | dropouts)


def test_byte_pairs_are_lowercased_and_wrapped_and_nothing_is_unknown():
    tokenizer = fresh.train_tokenizer(["swim swimming"] * 3, 300)
    assert tokenizer.encode("SWIM").tokens == ["[CLS]", "Ġswim", "[SEP]"]
    assert [tokenizer.token_to_id(token) for token in fresh.SPECIAL] == [0, 1, 2]
    assert tokenizer.encode("SWIM").ids[::2] == [1, 2]
    assert len(tokenizer.encode("Ж").ids) == 2 + 1 + len("ж".encode())  # a blank before it


def test_the_fewest_byte_pairs_that_may_be_asked_for_are_the_bytes():
    assert TransformerEncoder.Options(vocabulary=259).vocabulary == 259
    assert fresh.train_tokenizer(["swim swimming"] * 3, 259).get_vocab_size() == 259


def test_another_process_learns_the_same_tokenizer():
    learn = (
        "import itertools; from msiam_transformer import fresh; "
        "texts = [' '.join(w) for w in itertools.permutations('ab cd ef gh ij kl'.split(), 4)]; "
        "texts += [a + b for a in texts for b in 'xyz']; "
        "print(fresh.train_tokenizer(texts, 400).to_str())"
    )
    learnt = {
        subprocess.run(
            [sys.executable, "-c", learn],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(learnt) == 1


def test_no_text_is_an_error():
    with pytest.raises(errors.DataError, match="no text to learn byte pairs from"):
        fresh.train_tokenizer([], 100)


def test_the_default_is_a_small_bert():
    made = config({})
    assert (made.model_type, made.hidden_size, made.num_hidden_layers) == ("bert", 256, 4)
    assert (made.vocab_size, made.pad_token_id) == (50, 0)


def test_a_key_of_the_recipe_goes_before_the_default():
    assert config({"hidden_size": 64, "hidden_act": "relu"}).hidden_size == 64


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert", "modernbert", "gpt2", "t5"])
def test_a_model_of_another_kind_reads_as_many_tokens_as_it_should(kind):
    made = config({"model_type": kind, "hidden_size": 16, "num_hidden_layers": 1})
    model = fresh.make_model(made).eval()
    model = model.get_encoder() if made.is_encoder_decoder else model
    states = model(input_ids=torch.full((1, 12), 7)).last_hidden_state
    assert states.shape == (1, 12, 16) and states.dtype == torch.float32


def test_dropouts_are_set_under_every_name():
    bert = config({}, dropout=0.25, attention_dropout=0.0)
    assert (bert.hidden_dropout_prob, bert.attention_probs_dropout_prob) == (0.25, 0)
    gpt = config({"model_type": "gpt2"}, dropout=0.25, attention_dropout=0.0)
    assert (gpt.resid_pdrop, gpt.embd_pdrop, gpt.attn_pdrop) == (0.25, 0.25, 0)


def test_a_dropout_of_none_stays():
    assert config({}).hidden_dropout_prob == config({}).attention_probs_dropout_prob == 0.1


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"model_type": "brt"}, "config.model_type: transformers has no 'brt'; did you mean 'b"),
        ({"hiden_size": 3}, "config.hiden_size: .* did you mean 'hidden_size'"),
        ({"vocab_size": 3}, "config.vocab_size: .* set `vocabulary` instead"),
        ({"max_position_embeddings": 3}, "set `max_tokens` instead"),
        ({"pad_token_id": 3}, "config.pad_token_id"),
        ({"hidden_size": "many"}, "config: .*hidden_size"),
    ],
)
def test_a_wrong_configuration_gets_one_line(wanted, message):
    with pytest.raises(errors.RecipeError, match=message) as caught:
        config(wanted)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1500


def test_a_configuration_that_no_model_can_have_gets_one_line():
    with pytest.raises(errors.RecipeError, match=r"config: .*multiple"):
        fresh.make_model(config({"hidden_size": 30, "num_attention_heads": 4}))
