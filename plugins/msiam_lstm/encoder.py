"""Texts to vectors with a (Bi)LSTM."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from tokenizers import Tokenizer
from torch import Tensor, nn

from msiam import Encoder, Options, Rejected, errors, resolve, text_of
from msiam_lstm import vocabulary
from msiam_lstm.reading import Pooling, Reader
from msiam_lstm.vectors import read_vectors

UNKNOWN = vocabulary.SPECIAL.index("[UNK]")


class WordOptions(Options):
    """Options of every encoder that learns its words from the data."""

    tokenizer: Literal["word", "bpe"] = Field(
        "word", description="word: lowercased words and punctuation marks; bpe: byte pairs"
    )
    vocabulary: int = Field(20_000, gt=2, description="most words or byte pairs to learn")
    min_count: int = Field(2, gt=0, description="a rarer word is unknown, if it has no vector")
    max_tokens: int = Field(128, gt=0, description="a longer text is cut here")
    vectors: str | None = Field(
        None,
        description="word vectors, kept as they are beside what is learnt: GloVe or word2vec "
        "text, or .npy beside its list of words",
    )
    vector_words: int = Field(
        50_000, ge=0, description="first words of `vectors` known though the data lacks them"
    )
    embedding: int = Field(128, gt=0, description="width of what is learnt of a word")
    dropout: float = Field(0.2, ge=0, lt=1, description="of the words' embeddings, while training")
    word_dropout: float = Field(
        0.0, ge=0, lt=1, description="share of words that read as unknown, while training"
    )

    @model_validator(mode="after")
    def _vectors_are_of_words(self) -> Self:
        if self.vectors and self.tokenizer != "word":
            raise ValueError("vectors are of words: they need `tokenizer: word`")
        return self


class LstmOptions(WordOptions):
    """Options of the `lstm` encoder."""

    hidden: int = Field(256, gt=0, description="width of the LSTM, each direction")
    layers: int = Field(1, gt=0, description="LSTMs on top of each other")
    bidirectional: bool = Field(True, description="read the text backwards too")
    pooling: Literal["max", "mean", "last", "attention"] = Field(
        "max", description="how the words' states become one vector"
    )


class LstmEncoder(Encoder):
    """Words or byte pairs, learnt embeddings or word vectors, an LSTM in both directions, pooling.

    Max pooling over a bidirectional LSTM is InferSent's (Conneau et al., 2017).
    """

    Options: ClassVar[type[Options]] = LstmOptions
    modality = "text"
    budget = 4096
    #: Under which it is registered, for its errors.
    name: ClassVar[str] = "lstm"

    #: Texts that run together on a CPU, sorted by length: little padding, and the fastest size.
    group = 32

    options: Any
    learnt: Tensor
    _tokenizer: Tokenizer

    @property
    def dim(self) -> int:
        return self.reader.dim

    @classmethod
    def accepts(cls, item: object) -> bool:
        return isinstance(item, str)

    def fit(self, items: Iterable[Any]) -> None:
        """Learn the vocabulary from the texts among the items; look its word vectors up.

        Raises:
            DataError: there is nothing to learn among the items, or the vectors cannot be read.
        """
        texts = vocabulary.texts_of(items, self.name)
        vectors: dict[str, np.ndarray] = {}
        if self.options.tokenizer == "bpe":
            tokenizer = vocabulary.byte_pair_tokenizer(
                texts, self.options.vocabulary, self.options.min_count
            )
        else:
            counts = vocabulary.count_words(texts)
            if self.options.vectors:
                vectors = self._read_vectors(self.options.vectors, counts)
            tokenizer = vocabulary.word_tokenizer(self._choose_words(counts, vectors))
        if tokenizer.get_vocab_size() <= len(vocabulary.SPECIAL):
            raise errors.DataError(
                f"encoder '{self.name}': no vocabulary to learn, since no word of the texts occurs "
                f"min_count = {self.options.min_count} times"
            )
        tokenizer.enable_truncation(self.options.max_tokens)
        if not vectors:
            self._build(tokenizer.to_str())
            return
        # A word that the data hardly has shares what is learnt of the unknown one.
        common = [word for word, count in counts.items() if count >= self.options.min_count]
        own = [number for word in common if (number := tokenizer.token_to_id(word)) is not None]
        width = len(next(iter(vectors.values())))
        self._build(tokenizer.to_str(), width, len(vocabulary.SPECIAL) + len(own))
        self._fill(vectors, own)

    def _read_vectors(self, path: str, counts: dict[str, int]) -> dict[str, np.ndarray]:
        top = self.options.vector_words

        def keep(number: int, word: str) -> bool:
            # What the tokenizer would cut ("u.s.") could never be looked up.
            return word in counts or (number < top and vocabulary.words_of(word) == [word])

        return read_vectors(resolve(path), keep)

    def _choose_words(self, counts: dict[str, int], vectors: dict[str, np.ndarray]) -> list[str]:
        """The data's words, most frequent first, up to the limit; then what else has a vector."""
        known = [w for w, n in counts.items() if w in vectors or n >= self.options.min_count]
        limit = self.options.vocabulary - len(vocabulary.SPECIAL)
        return [*known[:limit], *(word for word in vectors if word not in counts)]

    def _build(self, tokenizer: str, fixed: int = 0, rows: int | None = None) -> None:
        """Build everything from the tokenizer as it is saved, which the fingerprint is of too.

        Args:
            fixed: the width of the word vectors, which are not trained; 0: there are none.
            rows: how many embeddings are learnt, if not one of each token.
        """
        self._saved = tokenizer
        self._tokenizer = Tokenizer.from_str(tokenizer)
        size, width = self._tokenizer.get_vocab_size(), self.options.embedding
        self.embedding = nn.Embedding(rows or size, width, padding_idx=0)
        self.embedding.weight.data.mul_(0.3)
        self.vectors: nn.Embedding | None = None
        if fixed:
            self.vectors = nn.Embedding(size, fixed, padding_idx=0).requires_grad_(False)
            self.register_buffer("learnt", torch.full((size,), UNKNOWN))
        self.dropout = nn.Dropout(self.options.dropout)
        self._build_reader(width + fixed)

    def _build_reader(self, width: int) -> None:
        """Build what reads words of this width; `_read` runs it."""
        options = self.options
        self.reader = Reader(width, options.hidden, options.layers, options.bidirectional)
        self.pooling = Pooling(options.pooling, self.reader.dim, options.bidirectional)

    @torch.no_grad()
    def _fill(self, vectors: dict[str, np.ndarray], own: list[int]) -> None:
        """Word vectors into their rows, zeros into the others; `own` tokens learn a row each."""
        assert self.vectors is not None
        numbers = self._tokenizer.get_vocab()
        rows = {numbers[word]: vector for word, vector in vectors.items() if word in numbers}
        self.vectors.weight.zero_()
        self.vectors.weight[list(rows)] = torch.from_numpy(np.stack(list(rows.values())))
        self.learnt[0] = 0
        self.learnt[own] = torch.arange(len(vocabulary.SPECIAL), self.embedding.num_embeddings)

    def _hide(self, tokens: Tensor) -> Tensor:
        """While training some words read as unknown, so that no text is known by one word alone."""
        share = self.options.word_dropout
        if not self.training or share == 0:
            return tokens
        hidden = (torch.rand(tokens.shape, device=tokens.device) < share) & (tokens != 0)
        return tokens.masked_fill(hidden, UNKNOWN)

    def _words(self, tokens: Tensor) -> Tensor:
        """Tokens (…) to words (…, width): the vector, if any, and what is learnt."""
        if self.vectors is None:
            return self.embedding(tokens)
        return torch.cat([self.vectors(tokens), self.embedding(self.learnt[tokens])], dim=-1)

    def prepare(self, items: Sequence[Any]) -> list[np.ndarray | Rejected]:
        found = [text_of(item) for item in items]
        texts = [text for text in found if isinstance(text, str)]
        encodings = iter(self._tokenizer.encode_batch_fast(texts))
        return [
            item if isinstance(item, Rejected) else _numbers(next(encodings).ids) for item in found
        ]

    def collate(self, features: Sequence[np.ndarray]) -> dict[str, Tensor]:
        lengths = [len(feature) for feature in features]
        tokens = np.zeros((len(features), max(lengths)), dtype=np.int64)
        for row, feature in zip(tokens, features, strict=True):
            row[: len(feature)] = feature
        return {"tokens": torch.from_numpy(tokens), "lengths": torch.tensor(lengths)}

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Tokens (B, T), 0 behind each text's `lengths` (B,), to (B, dim)."""
        lengths, order = batch["lengths"].sort()
        words = self.dropout(self._words(self._hide(batch["tokens"][order])))
        size = self.group if words.device.type == "cpu" else len(words)
        pooled = []
        for some, long in zip(words.split(size), lengths.split(size), strict=True):
            pooled.append(self._read(some[:, : int(long[-1])], long))
        # The weights' own precision again: what comes behind has it, too.
        return torch.cat(pooled)[order.argsort()].to(self.embedding.weight.dtype)

    def _read(self, words: Tensor, lengths: Tensor) -> Tensor:
        """Embedded words (b, t, width) of texts with these lengths (b,) to (b, dim)."""
        return self.pooling(self.reader(words, lengths), lengths)

    def cost(self, feature: np.ndarray) -> int:
        return len(feature)

    def save(self, folder: Path) -> None:
        (folder / "tokenizer.json").write_text(self._saved, encoding="utf-8")
        fixed = 0 if self.vectors is None else self.vectors.embedding_dim
        sizes = {"vectors": fixed, "rows": self.embedding.num_embeddings}
        (folder / "lstm.json").write_text(json.dumps(sizes))

    def restore(self, folder: Path) -> None:
        tokenizer = (folder / "tokenizer.json").read_text(encoding="utf-8")
        sizes = json.loads((folder / "lstm.json").read_text())
        self._build(tokenizer, sizes["vectors"], sizes.get("rows"))  # once there was no "rows"

    def features_fingerprint(self) -> str:
        return hashlib.sha256(f"lstm\n{self._saved}".encode()).hexdigest()

    def fingerprint(self) -> str:
        digest = hashlib.sha256(f"{super().fingerprint()}\n{self._saved}".encode())
        return digest.hexdigest()[:16]


def _numbers(ids: list[int]) -> np.ndarray | Rejected:
    return np.array(ids, dtype=np.int32) if ids else Rejected("no word in the text")
