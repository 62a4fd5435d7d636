"""Finds and loads a pretrained model: a folder, a hub name, or a sentence-transformers folder."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, normalizers
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedConfig, PreTrainedModel
from transformers.utils import logging

from msiam import errors, resolve

POOLINGS = {"mean": "mean", "cls": "cls", "max": "max", "lasttoken": "last"}
HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
HUB_FILES = ["*.json", "*.txt", "*.model", "*.safetensors"]
NOT_OURS = ["onnx/*", "openvino/*"]
UNLIMITED = 2**31


@dataclass
class Layout:
    """What a folder says about the transformer in it."""

    folder: Path
    pooling: str | None = None
    max_tokens: int | None = None
    lowercase: bool = False


@dataclass
class Loaded:
    """A pretrained model with its tokenizer, and the longest text that the latter was made for."""

    model: PreTrainedModel
    tokenizer: Tokenizer
    longest: int


def find_folder(name: str) -> Path:
    """The folder that the name means: one on this machine, or one fetched from the hub.

    Raises:
        ModelError: there is no such folder, and the hub has no such model or is out of reach.
    """
    path = resolve(name)
    if path.is_dir():
        return path
    if path.exists() or not HUB_NAME.fullmatch(name):
        raise errors.ModelError(f"{path}: no such folder; name the folder of a transformers model")
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(name, allow_patterns=HUB_FILES, ignore_patterns=NOT_OURS)
    except (OSError, ValueError) as error:
        raise errors.ModelError(
            f"model '{name}': no such folder here, and the hub does not give it: {one_line(error)}"
        ) from error
    return Path(folder)


def read_layout(folder: Path, pooling: str | None) -> Layout:
    """Where in the folder the transformer is, and how sentence-transformers would use it.

    Args:
        pooling: the user's choice, which goes before the folder's; None for the folder's.

    Raises:
        ModelError: sentence-transformers would do something here that this encoder does not.
    """
    if not (folder / "modules.json").exists():
        return Layout(folder, pooling)
    kinds = {
        module["type"].rpartition(".")[2]: folder / module["path"]
        for module in read_json(folder / "modules.json", list)
    }
    layout = Layout(kinds.get("Transformer", folder), pooling)
    strange = sorted(kinds.keys() - {"Transformer", "Pooling", "Normalize"})
    if "Transformer" not in kinds or (strange and not pooling):
        raise errors.ModelError(
            f"{folder / 'modules.json'}: made of {', '.join(kinds)}; only Transformer, Pooling and "
            "Normalize are known; set `pooling` to take the transformer alone"
        )
    if "Pooling" in kinds and not pooling:
        layout.pooling = _read_pooling(kinds["Pooling"] / "config.json")
    for file in sorted(layout.folder.glob("sentence_*_config.json")):
        settings = read_json(file, dict)
        layout.max_tokens = settings.get("max_seq_length")
        layout.lowercase = bool(settings.get("do_lower_case"))
    return layout


def _read_pooling(file: Path) -> str:
    """Both styles: `pooling_mode: mean` and, before it, `pooling_mode_mean_tokens: true`."""
    settings = read_json(file, dict)
    modes = settings.get("pooling_mode") or [
        key.removeprefix("pooling_mode_").removesuffix("_tokens").removesuffix("_token")
        for key, on in settings.items()
        if key.startswith("pooling_mode_") and on is True
    ]
    modes = [modes] if isinstance(modes, str) else modes
    if len(modes) == 1 and modes[0] in POOLINGS:
        return POOLINGS[modes[0]]
    raise errors.ModelError(
        f"{file}: pools by {' and '.join(modes) or 'nothing'}; set `pooling` to one of "
        f"{', '.join(POOLINGS.values())}"
    )


def load(layout: Layout, dropouts: dict[str, float | None]) -> Loaded:
    """The model (float32) and the tokenizer of a folder.

    Raises:
        ModelError: files are missing or broken, or the weights are a pickle.
    """
    folder = layout.folder
    if not (folder / "config.json").exists():
        raise errors.ModelError(
            f"{folder}: no config.json, so not the folder of a transformers model"
        )
    if not any(folder.glob("*.safetensors")):
        raise errors.ModelError(
            f"{folder}: no weights as safetensors (pytorch_model.bin is a pickle, which can "
            "run any code, and stays closed); save the model as safetensors first"
        )
    try:
        with _quietly():
            config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
            set_dropouts(config, **dropouts)
            model, found = AutoModel.from_pretrained(
                folder,
                config=config,
                dtype=torch.float32,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
            made = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # transformers, safetensors and tokenizers each raise their own
        raise errors.ModelError(f"{folder}: does not load: {one_line(error)}") from error
    lacking = sorted(k for k in found["missing_keys"] if not k.startswith(("pooler.", "decoder.")))
    if lacking:
        raise errors.ModelError(f"{folder}: the weights lack {len(lacking)}, first {lacking[0]}")
    tokenizer = getattr(made, "backend_tokenizer", None)
    if tokenizer is None:
        raise errors.ModelError(f"{folder}: its tokenizer has no tokenizer.json, which is needed")
    knows, size = model.get_input_embeddings().num_embeddings, tokenizer.get_vocab_size()
    if not len(made.all_special_tokens) < size <= knows:
        # Without its files, transformers makes a tokenizer to which every word is unknown.
        raise errors.ModelError(f"{folder}: its tokenizer has {size} tokens, its model {knows}")
    tokenizer.no_padding()
    tokenizer.no_truncation()
    if layout.lowercase:
        parts = [normalizers.Lowercase(), tokenizer.normalizer]
        tokenizer.normalizer = normalizers.Sequence([part for part in parts if part])
    return Loaded(model, tokenizer, int(min(made.model_max_length, UNLIMITED)))


def set_dropouts(
    config: PreTrainedConfig, dropout: float | None, attention_dropout: float | None
) -> None:
    """Set every dropout that the configuration has under any of its names; None leaves it."""
    for name, value in config.to_dict().items():
        wanted = attention_dropout if name.startswith("att") else dropout
        words = "drop" in name and not any(part in name for part in ("layerdrop", "path"))
        if words and wanted is not None and type(value) in (int, float):
            setattr(config, name, float(wanted))


def longest_text(model: PreTrainedModel) -> int:
    """The most tokens that the model has positions for."""
    limit = getattr(model.config, "max_position_embeddings", None) or UNLIMITED
    for name, module in model.named_modules():
        padding = getattr(module, "padding_idx", None)
        if name.endswith("position_embeddings") and padding is not None:
            limit -= padding + 1  # RoBERTa counts from behind the padding's number
    return limit


def read_json(file: Path, kind: type) -> Any:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise errors.ModelError(f"{file}: not to be read as JSON: {one_line(error)}") from error
    if not isinstance(found, kind):
        raise errors.ModelError(f"{file}: holds a {type(found).__name__}, not a {kind.__name__}")
    return found


def one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) < 300 else f"{text[:300]} …"


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Neither a bar nor a table of unused weights while a model loads."""
    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()
