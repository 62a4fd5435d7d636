"""Texts to vectors with a (Bi)LSTM."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from msiam import Encoder, Options, Rejected, errors, resolve
from pydantic import Field, model_validator
from tokenizers import Tokenizer
from torch import Tensor, nn

from msiam_lstm import vocabulary
from msiam_lstm.vectors import read_vectors

# Workers already share the cores out; threads below them only fight, and warn when forked.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


class LstmOptions(Options):
    """Options of the `lstm` encoder."""

    tokenizer: Literal["word", "bpe"] = Field(
        "word", description="word: lowercased words and punctuation marks; bpe: byte pairs"
    )
    vocabulary: int = Field(20_000, gt=2, description="most words or byte pairs to learn")
    min_count: int = Field(2, gt=0, description="a rarer word is unknown, if it has no vector")
    max_tokens: int = Field(128, gt=0, description="a longer text is cut here")
    vectors: str | None = Field(
        None, description="word vectors: GloVe or word2vec text, or .npy beside its list of words"
    )
    vector_words: int = Field(
        50_000, ge=0, description="first words of `vectors` known though the data lacks them"
    )
    embedding: int | None = Field(
        None, gt=0, description="width of a word (128, or that of `vectors`)"
    )
    hidden: int = Field(256, gt=0, description="width of the LSTM, each direction")
    layers: int = Field(1, gt=0, description="LSTMs on top of each other")
    bidirectional: bool = Field(True, description="read the text backwards too")
    pooling: Literal["max", "mean", "last", "attention"] = Field(
        "max", description="how the words' states become one vector"
    )
    dropout: float = Field(0.2, ge=0, lt=1, description="of the words' embeddings, while training")

    @model_validator(mode="after")
    def _vectors_are_of_words(self) -> LstmOptions:
        if self.vectors and self.tokenizer != "word":
            raise ValueError("vectors are of words: they need `tokenizer: word`")
        if self.vectors and self.embedding:
            raise ValueError("the width is that of `vectors`: leave `embedding` out")
        return self
