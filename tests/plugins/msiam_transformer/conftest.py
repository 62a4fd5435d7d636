"""A tiny pretrained model, made here: random weights, saved as transformers saves its own."""

from __future__ import annotations

import json
import re

import pytest
import torch
from transformers import BertConfig, BertModel, BertTokenizerFast

TEXTS = [
    "How do I learn to swim?",
    "What is the best way to learn swimming as an adult, in a river or in the open sea?",
    "Swim",
    "is honey a good alternative to sugar",
] * 10


WORDS = sorted({word for text in TEXTS for word in re.findall(r"\w+|[?,]", text.lower())})


@pytest.fixture
def texts():
    return TEXTS


@pytest.fixture
def pretrained(tmp_path):
    """A folder with a BERT of 32 positions and its tokenizer."""
    torch.manual_seed(0)
    folder = tmp_path / "tiny"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    tokenizer = BertTokenizerFast(vocab={word: number for number, word in enumerate(words)})
    tokenizer.model_max_length = 32
    tokenizer.save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        attention_probs_dropout_prob=0.3,
        hidden_dropout_prob=0.3,
    )
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture
def as_sentence_transformer(pretrained):
    """Add what sentence-transformers writes beside a model; returns the folder."""

    def write(pooling, *, modules=("Transformer", "Pooling", "Normalize"), **settings):
        layout = [
            {"idx": n, "name": str(n), "path": f"{n}_{kind}" if n else "", "type": f"some.{kind}"}
            for n, kind in enumerate(modules)
        ]
        (pretrained / "modules.json").write_text(json.dumps(layout))
        (pretrained / "sentence_bert_config.json").write_text(json.dumps(settings))
        (pretrained / "1_Pooling").mkdir()
        (pretrained / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
        return pretrained

    return write
