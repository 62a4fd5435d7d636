"""A model's folder: model.json, model.safetensors, the encoders' files, a checksum for each."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor, nn

from msiam.errors import ModelError
from msiam.paths import room_on_disk, sha256

DESCRIPTION = "model.json"
WEIGHTS = "model.safetensors"
FORMAT = 1


def save(
    folder: Path,
    description: dict[str, Any],
    state: dict[str, Tensor],
    write_more: Callable[[Path], None],
) -> Path:
    """Write a model's folder under a temporary name; it takes its place when it is whole.

    Raises:
        ModelError: ``folder`` holds something that is no model, which is not overwritten.
        RunError: the disk is full.
    """
    if folder.is_dir() and any(folder.iterdir()) and not (folder / DESCRIPTION).is_file():
        raise ModelError(f"{folder}: holds something that is no model; give a new or empty folder")
    draft = folder.with_name(f".{folder.name}.{os.getpid()}.draft")
    try:
        with room_on_disk(folder):
            draft.mkdir(parents=True)
            write_more(draft)
            safetensors.torch.save_file(state, draft / WEIGHTS)
            files = {str(p.relative_to(draft)): sha256(p) for p in sorted(_files(draft))}
            content = {"format": FORMAT, **description, "files": files}
            (draft / DESCRIPTION).write_text(json.dumps(content, indent=1), encoding="utf-8")
            _sync(draft)
        _exchange(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def describe(folder: Path) -> dict[str, Any]:
    """Read model.json and check every file that it lists.

    Raises:
        ModelError: no model there, a file missing or changed, a pickle where there should be none.
    """
    path = folder / DESCRIPTION
    if not path.is_file():
        pickles = [
            p.name for pattern in ("*.bin", "*.pt", "*.pth", "*.pkl") for p in folder.glob(pattern)
        ]
        if pickles:
            raise ModelError(
                f"{folder / pickles[0]}: is a pickle, which can run code when opened; msiam reads "
                f"{WEIGHTS} with {DESCRIPTION}, as Model.save writes them"
            )
        raise ModelError(
            f"{folder}: no {DESCRIPTION}, so no model; give a run's or a model's folder"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        listed = content["files"]
    except (ValueError, KeyError) as error:
        raise ModelError(f"{path}: is damaged ({error}); take the copy that was saved") from error
    if content["format"] != FORMAT:
        raise ModelError(f"{path}: format {content['format']}; this msiam reads format {FORMAT}")
    for name, checksum in listed.items():
        _check(folder / name, checksum)
    return content


def load_weights(folder: Path, model: nn.Module) -> None:
    """Fill a model's parameters from model.safetensors."""
    try:
        state = safetensors.torch.load_file(folder / WEIGHTS)
    except safetensors.SafetensorError as error:
        raise ModelError(f"{folder / WEIGHTS}: is no safetensors file ({error})") from error
    model.load_state_dict(state)


def _check(path: Path, checksum: str) -> None:
    if not path.is_file():
        raise ModelError(
            f"{path}: is missing, though {DESCRIPTION} lists it; copy the whole folder"
        )
    with path.open("rb") as file:
        start = file.read(2)
    # A pickle begins with its protocol (0x80 n); torch.save wraps one in a zip (PK).
    if path.name == WEIGHTS and (start[:1] == b"\x80" or start == b"PK"):
        raise ModelError(
            f"{path}: is a pickle, which can run code when opened, where safetensors belongs; "
            "save the model with Model.save"
        )
    if sha256(path) != checksum:
        raise ModelError(
            f"{path}: has changed since it was saved (its checksum differs); copy it again"
        )


def _files(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if p.is_file()]


def _sync(folder: Path) -> None:
    for path in _files(folder):
        with path.open("rb+") as file:
            os.fsync(file.fileno())


def _exchange(draft: Path, folder: Path) -> None:
    """Put the draft in the folder's place; the old one goes only afterwards."""
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    if folder.exists():
        folder.replace(old)
    draft.replace(folder)
    shutil.rmtree(old, ignore_errors=True)
