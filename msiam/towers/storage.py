"""A model's folder: model.json, model.safetensors, the encoders' files, a checksum for each."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import nn

from msiam.errors import ModelError
from msiam.paths import room_on_disk, sha256

DESCRIPTION = "model.json"
WEIGHTS = "model.safetensors"
FORMAT = 1


def save(
    folder: Path,
    description: dict[str, Any],
    model: nn.Module,
    write_more: Callable[[Path], None],
) -> None:
    """Write a model's folder under a temporary name; it takes its place when it is whole.

    Raises:
        ModelError: ``folder`` holds something that is no model, which is not overwritten.
        RunError: the disk is full.
    """
    folder = folder.resolve()
    empty = folder.is_dir() and not any(folder.iterdir())
    if folder.exists() and not empty and not (folder / DESCRIPTION).is_file():
        raise ModelError(f"{folder}: holds something that is no model; give a new or empty folder")
    draft = folder.with_name(f".{folder.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)  # of a save that was killed
    try:
        with room_on_disk(folder):
            draft.mkdir(parents=True)
            write_more(draft)
            safetensors.torch.save_model(model, str(draft / WEIGHTS))  # tied weights only once
            files = {str(p.relative_to(draft)): sha256(p) for p in sorted(_files(draft))}
            content = {"format": FORMAT, **description, "files": files}
            (draft / DESCRIPTION).write_text(_render(content), encoding="utf-8")
            # safetensors writes files that nobody else may read.
            shutil.copymode(draft / DESCRIPTION, draft / WEIGHTS)
            _sync(draft)
        _exchange(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def whole(folder: Path) -> Path:
    """The folder to read: the old one, set aside, where a save was killed between its renames."""
    old = _aside(folder.resolve())
    return old if old.is_dir() and not folder.exists() else folder


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
        found = f"no {DESCRIPTION}, so no model" if folder.is_dir() else "there is no such folder"
        raise ModelError(f"{folder}: {found}; give a run's or a model's folder")
    try:
        raw = path.read_text(encoding="utf-8")
        content = json.loads(raw)
        found = content["format"]
        if found == FORMAT:
            del content["checksum"]
            if _render(content) != raw:
                raise ValueError("its checksum differs")
    except (ValueError, TypeError, KeyError) as error:
        raise ModelError(f"{path}: is damaged or was changed ({error}); copy it again") from error
    if found != FORMAT:
        raise ModelError(f"{path}: format {found!r}; this msiam reads format {FORMAT}")
    for name, checksum in content["files"].items():
        _check(folder / name, checksum)
    return content


def load_weights(folder: Path, model: nn.Module) -> None:
    """Fill a model's parameters from model.safetensors."""
    path = folder / WEIGHTS
    try:
        safetensors.torch.load_model(model, str(path))
    except safetensors.SafetensorError as error:
        raise ModelError(f"{path}: is no safetensors file ({error})") from error
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ModelError(
            f"{path}: its weights do not fit the towers of {DESCRIPTION}; install the versions of "
            f"the plugins that saved it ({reason[:200]})"
        ) from error


def _render(content: dict[str, Any]) -> str:
    """model.json as it is written: JSON, with a checksum of its own as the last key."""
    checksum = hashlib.sha256(json.dumps(content, indent=1).encode()).hexdigest()
    return json.dumps({**content, "checksum": checksum}, indent=1) + "\n"


def _check(path: Path, checksum: str) -> None:
    if not path.is_file():
        raise ModelError(
            f"{path}: is missing, though {DESCRIPTION} lists it; copy the whole folder"
        )
    with path.open("rb") as file:
        start = file.read(9)
    # A pickle begins with its protocol (0x80 n); torch.save wraps one in a zip (PK). Safetensors
    # may begin with any byte, of its header's length, but after eight of them the header opens.
    if (
        path.suffix == ".safetensors"
        and start.startswith((b"\x80", b"PK"))
        and not start.endswith(b"{")
    ):
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
    old = _aside(folder)
    if folder.exists():
        shutil.rmtree(old, ignore_errors=True)
        folder.replace(old)
    draft.replace(folder)
    shutil.rmtree(old, ignore_errors=True)


def _aside(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")
