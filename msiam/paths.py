"""Where files are: variables, files inside installed packages, and whole-or-nothing writing."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib.util
import os
import re
from collections.abc import Iterator
from pathlib import Path

from msiam.errors import RecipeError, RunError

PACKAGE = "package://"
_VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")


def expand(text: str) -> str:
    """Put the environment's values in the place of ``${NAME}`` and ``${NAME:-default}``.

    Raises:
        RecipeError: a variable is not set and has no default.
    """

    def value(match: re.Match[str]) -> str:
        found = os.environ.get(match[1], match[2])
        if found is None:
            raise RecipeError(
                f"'{text}': {match[1]} is not set; set it, or write a default: ${{{match[1]}:-path}}"
            )
        return found

    return _VARIABLE.sub(value, text)


def resolve(text: str | Path) -> Path:
    """A path as people write it: ``~``, ``${VAR:-default}`` or ``package://NAME/file`` in it.

    Raises:
        RecipeError: a variable is not set, or the package is not installed.
    """
    name = expand(str(text))
    if not name.startswith(PACKAGE):
        return Path(name).expanduser()
    package, _, inside = name.removeprefix(PACKAGE).partition("/")
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise RecipeError(
            f"'{name}': the package {package} is not installed; pip install {package.replace('_', '-')}"
        )
    return Path(next(iter(spec.submodule_search_locations))) / inside


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write the file under a temporary name; it takes its place, synced, only when it is whole.

    Raises:
        RunError: the disk is full. The file is then as it was before.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    try:
        with room_on_disk(path):
            yield draft
            with draft.open("rb+") as file:
                os.fsync(file.fileno())
            draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with replacing(path) as draft:
        draft.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def room_on_disk(path: Path) -> Iterator[None]:
    """Turn the system's refusal to write into one clear line.

    Raises:
        RunError: the disk is full, or the user's quota or file-size limit is reached.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise RunError(
            f"{path}: no room to write it ({error.strerror}); free some space and run the same "
            "command again with --resume"
        ) from error
