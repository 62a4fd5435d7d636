"""A fresh small model: its configuration, and byte pairs learnt from the data."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import CONFIG_MAPPING, AutoModel, PreTrainedConfig, PreTrainedModel

from msiam import errors
from msiam_transformer.pretrained import one_line, set_dropouts

SPECIAL = ["[PAD]", "[CLS]", "[SEP]"]
SPECIAL_IDS = {
    "pad_token_id": 0,
    "cls_token_id": 1,
    "bos_token_id": 1,
    "sep_token_id": 2,
    "eos_token_id": 2,
}
DEFAULTS = {
    "hidden_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 1024,
}


def train_tokenizer(texts: Iterable[str], size: int) -> Tokenizer:
    """Lowercased byte pairs learnt from the texts (Sennrich et al., 2016): nothing is unknown.

    The same texts give the same tokenizer in every process, which `tokenizers` does not hold to
    for word pieces.

    Raises:
        DataError: there is no text to learn from.
    """
    texts = iter(texts)
    first = next(texts, None)
    if first is None:
        raise errors.DataError("encoder 'transformer': no text to learn byte pairs from")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=2,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(chain([first], texts), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return tokenizer


def make_config(
    wanted: dict[str, Any], tokens: int, max_tokens: int, dropouts: dict[str, float | None]
) -> PreTrainedConfig:
    """The configuration of a fresh model that knows `tokens` byte pairs.

    Raises:
        RecipeError: the kind of model or a key is unknown, or a value is not right for it.
    """
    kind = str(wanted.get("model_type", "bert"))
    if kind not in CONFIG_MAPPING:
        guess = errors.one_of(kind, CONFIG_MAPPING.keys()).partition("Known:")[0]
        raise errors.RecipeError(
            f"config.model_type: transformers has no '{kind}'; {guess}".strip()
        )
    make = CONFIG_MAPPING[kind]
    known = {*make().to_dict(), *make.attribute_map}
    # Two more positions than tokens: RoBERTa's kin count from behind the padding's number.
    given = {"vocab_size": tokens, "max_position_embeddings": max_tokens + 2} | SPECIAL_IDS
    for key in wanted.keys() - {"model_type"}:
        if key not in known or key in given:
            instead = {"vocab_size": "`vocabulary`", "max_position_embeddings": "`max_tokens`"}
            hint = f"set {instead[key]} instead" if key in instead else errors.one_of(key, known)
            raise errors.RecipeError(f"config.{key}: not a key of '{kind}' to set here; {hint}")
    ours = {key: value for key, value in (DEFAULTS | given).items() if key in known}
    try:
        config = make(**ours | {k: v for k, v in wanted.items() if k != "model_type"})
    except Exception as error:  # each configuration checks its values in its own way
        raise errors.RecipeError(f"config: {one_line(error)}") from error
    set_dropouts(config, **dropouts)
    return config


def make_model(config: PreTrainedConfig) -> PreTrainedModel:
    """A model of this configuration, its weights by chance, float32.

    Raises:
        RecipeError: no such model can be built.
    """
    try:
        return AutoModel.from_config(config, dtype=torch.float32, trust_remote_code=False)
    except Exception as error:  # each model checks its configuration in its own way
        raise errors.RecipeError(f"config: {one_line(error)}") from error
