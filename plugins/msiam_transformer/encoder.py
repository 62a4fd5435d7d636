"""Texts to vectors with a transformer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, field_validator, model_validator
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import AutoConfig, PreTrainedModel

from msiam import Encoder, Options, Rejected, errors, text_of
from msiam_transformer import fresh, packed, pretrained, varlen
from msiam_transformer.pooling import pool


class TransformerOptions(Options):
    """Options of the `transformer` encoder."""

    model: str | None = Field(
        None,
        description="pretrained: the folder or hub name of a transformers or "
        "sentence-transformers model; without it, a fresh small one",
    )
    config: dict[str, Any] = Field(
        {},
        description="of a fresh model: keys of its transformers configuration, "
        "such as {model_type: bert, hidden_size: 256, num_hidden_layers: 4}",
    )
    vocabulary: int | None = Field(
        None, ge=259, description="of a fresh model: most byte pairs to learn from the data (16000)"
    )
    pooling: Literal["mean", "cls", "max", "last"] | None = Field(
        None,
        description="how the tokens' states become one vector "
        "(as a sentence-transformers folder says, otherwise mean)",
    )
    max_tokens: int | None = Field(
        None, gt=2, description="a longer text is cut here (the model's own limit; 128 if fresh)"
    )
    dropout: float | None = Field(None, ge=0, lt=1, description="while training (the model's own)")
    attention_dropout: float | None = Field(
        0.0, ge=0, lt=1, description="other than 0 it takes a CPU's fast attention away"
    )

    @field_validator("config")
    @classmethod
    def _in_one_order(cls, config: dict[str, Any]) -> dict[str, Any]:
        return dict(sorted(config.items()))

    @model_validator(mode="after")
    def _one_origin(self) -> TransformerOptions:
        if self.model and (self.config or self.vocabulary):
            raise ValueError("`config` and `vocabulary` are of a fresh model: leave `model` out")
        return self


class TransformerEncoder(Encoder):
    """Any text model of transformers, pretrained or fresh, and pooling over its tokens.

    Sentence-BERT (Reimers and Gurevych, 2019) is this with a pretrained model and mean pooling.
    """

    Options = TransformerOptions
    modality = "text"
    budget = 4096

    options: TransformerOptions

    @property
    def dim(self) -> int:
        return self.model.config.hidden_size

    @property
    def pretrained(self) -> bool:
        return self.options.model is not None

    @classmethod
    def accepts(cls, item: object) -> bool:
        return isinstance(item, str)

    def fit(self, items: Iterable[Any]) -> None:
        """Load the pretrained model; or make a fresh one, its byte pairs learnt from the items.

        Raises:
            ModelError: the pretrained model cannot be found or loaded.
            RecipeError: an option does not fit the model.
            DataError: a fresh model, and no text among the items.
        """
        if self.options.model is None:
            self._make_fresh(text for text in map(text_of, items) if isinstance(text, str))
        else:
            self._load(self.options.model)

    def _make_fresh(self, texts: Iterable[str]) -> None:
        max_tokens = self.options.max_tokens or 128
        tokenizer = fresh.train_tokenizer(texts, self.options.vocabulary or 16_000)
        config = fresh.make_config(
            self.options.config, tokenizer.get_vocab_size(), max_tokens, self._dropouts
        )
        about = {"pooling": self.options.pooling or "mean", "max_tokens": max_tokens}
        self._build(fresh.make_model(config), config.to_json_string(), tokenizer.to_str(), about)

    def _load(self, name: str) -> None:
        layout = pretrained.read_layout(pretrained.find_folder(name), self.options.pooling)
        loaded = pretrained.load(layout, self._dropouts)
        limit = pretrained.longest_text(loaded.model)
        own = min(layout.max_tokens or loaded.longest, limit)
        max_tokens = self.options.max_tokens or (own if own < pretrained.UNLIMITED else 512)
        if max_tokens > limit:
            raise errors.RecipeError(f"max_tokens: {max_tokens}; '{name}' reads at most {limit}")
        about = {"pooling": layout.pooling or "mean", "max_tokens": max_tokens}
        config = loaded.model.config.to_json_string()
        self._build(loaded.model, config, loaded.tokenizer.to_str(), about)

    @property
    def _dropouts(self) -> dict[str, float | None]:
        return self.options.model_dump(include={"dropout", "attention_dropout"})

    def _build(
        self, model: PreTrainedModel, config: str, tokenizer: str, about: dict[str, Any]
    ) -> None:
        """Keep the texts of what was saved, or will be, so that the fingerprint is of these."""
        self.model = _body(model)
        self._saved = {"config.json": config, "tokenizer.json": tokenizer}
        self._saved["transformer.json"] = json.dumps(about)
        self._pooling = about["pooling"]
        self._padding = self.model.config.pad_token_id or 0
        self._first_place = packed.first_place(self.model)
        self._tokenizer = Tokenizer.from_str(tokenizer)
        self._tokenizer.enable_truncation(about["max_tokens"])
        self._wrapping = self._tokenizer.num_special_tokens_to_add(is_pair=False)

    def prepare(self, items: Sequence[Any]) -> list[np.ndarray | Rejected]:
        found = [text_of(item) for item in items]
        texts = [text for text in found if isinstance(text, str)]
        encodings = iter(self._tokenizer.encode_batch_fast(texts))
        return [
            item if isinstance(item, Rejected) else self._numbers(next(encodings).ids)
            for item in found
        ]

    def _numbers(self, ids: list[int]) -> np.ndarray | Rejected:
        if len(ids) <= self._wrapping:
            return Rejected("no word in the text")
        return np.array(ids, dtype=np.int32)

    def collate(self, features: Sequence[np.ndarray]) -> dict[str, Tensor]:
        shape = len(features), max(len(feature) for feature in features)
        tokens = np.full(shape, self._padding, dtype=np.int64)
        mask = np.zeros(shape, dtype=np.int64)
        for row, feature in enumerate(features):
            tokens[row, : len(feature)] = feature
            mask[row, : len(feature)] = 1
        return {"input_ids": torch.from_numpy(tokens), "attention_mask": torch.from_numpy(mask)}

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Tokens (B, T) and their mask (B, T), 1 at tokens and 0 at the padding, to (B, dim)."""
        tokens, mask = batch["input_ids"], batch["attention_mask"]
        if not self._packs(tokens):
            states = self.model(input_ids=tokens, attention_mask=mask).last_hidden_state
            vectors = pool(self._pooling, states, mask)
        elif tokens.device.type == "cpu":
            flat, places, runs, order = packed.pack(tokens, mask)
            states = packed.run(self.model, flat, places + self._first_place, runs)
            pooled = [pool(self._pooling, part) for part in packed.unpack(states, runs)]
            vectors = torch.cat(pooled)[order.argsort()]
        else:
            vectors = self._forward_on_gpu(tokens, mask, self._half(tokens.device))
        # The weights' own precision again: what comes behind has it, too.
        return vectors.to(self.model.dtype)

    def _forward_on_gpu(self, tokens: Tensor, mask: Tensor, half: torch.dtype) -> Tensor:
        """The layers over real tokens alone; each text's states are padded to be pooled."""
        real = mask.bool()
        places = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)[real][None]
        ends = varlen.Ends(mask, half)
        states = packed.run(self.model, tokens[real][None], places + self._first_place, ends)
        padded = states.new_zeros(*mask.shape, states.shape[-1]).index_put((real,), states)
        return pool(self._pooling, padded, mask)

    def _packs(self, states: Tensor) -> bool:
        """Whether a batch with these tokens or states is packed."""
        if self._first_place is None or states.device.type == "cpu":
            return self._first_place is not None
        half = self._half(states.device)
        drops = self.training and self.options.attention_dropout != 0
        return half is not None and not drops and varlen.works(states.device, half)

    def _half(self, device: torch.device) -> torch.dtype | None:
        return varlen.half_of(device, self.model.dtype)

    def split_states(self, states: Tensor, batch: dict[str, Tensor]) -> list[Tensor]:
        """The states of each text's tokens, (tokens, d)."""
        lengths = batch["attention_mask"].sum(1)
        if not self._packs(states):
            return [row[:length] for row, length in zip(states, lengths.tolist(), strict=True)]
        order = self._order(lengths)
        parts = states[0, : int(lengths.sum())].split(lengths[order].tolist())
        return [parts[place] for place in order.argsort().tolist()]

    def join_states(self, states: Sequence[Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        """Texts of any tokens, as long as these."""
        device = states[0].device
        lengths = torch.tensor([len(one) for one in states], device=device)
        mask = (torch.arange(int(lengths.max()), device=device) < lengths[:, None]).long()
        stand_in = {"input_ids": torch.zeros_like(mask), "attention_mask": mask}
        if self._packs(states[0]):
            flat = torch.cat([states[n] for n in self._order(lengths).tolist()])
            more = packed.filling(len(flat)) if device.type == "cpu" else 0
            return stand_in, nn.functional.pad(flat, (0, 0, 0, more))[None]
        return stand_in, nn.utils.rnn.pad_sequence(list(states), batch_first=True)

    def _order(self, lengths: Tensor) -> Tensor:
        """In which texts of these lengths are packed: on a CPU by length."""
        if lengths.device.type == "cpu":
            return lengths.argsort(stable=True)
        return torch.arange(len(lengths), device=lengths.device)

    def layers(self) -> Sequence[nn.Module]:
        number = getattr(self.model.config, "num_hidden_layers", None)
        lists = (module for module in self.model.modules() if isinstance(module, nn.ModuleList))
        return next((list(blocks) for blocks in lists if len(blocks) == number), [])

    def cost(self, feature: np.ndarray) -> int:
        return len(feature)

    def save(self, folder: Path) -> None:
        for name, text in self._saved.items():
            (folder / name).write_text(text, encoding="utf-8")

    def restore(self, folder: Path) -> None:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        names = ("config.json", "tokenizer.json", "transformer.json")
        texts = [(folder / name).read_text(encoding="utf-8") for name in names]
        self._build(fresh.make_model(config), texts[0], texts[1], json.loads(texts[2]))

    def features_fingerprint(self) -> str:
        texts = (self._saved[name] for name in ("tokenizer.json", "transformer.json"))
        return hashlib.sha256("\n".join(("transformer", *texts)).encode()).hexdigest()

    def fingerprint(self) -> str:
        digest = hashlib.sha256(super().fingerprint().encode())
        for text in self._saved.values():
            digest.update(text.encode())
        return digest.hexdigest()[:16]


def _body(model: PreTrainedModel) -> PreTrainedModel:
    """What makes the states of the tokens: no decoder, and no pooler, which would never learn."""
    if model.main_input_name != "input_ids" or model.config.get_text_config() is not model.config:
        raise errors.RecipeError(f"{type(model).__name__} reads more than texts, or other things")
    if model.config.is_encoder_decoder:
        model = model.get_encoder()
    if isinstance(getattr(model, "pooler", None), nn.Module):
        model.register_module("pooler", None)
    model.config.use_cache = False
    return model
