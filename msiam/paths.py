"""Where files are: variables, files inside installed packages, and whole-or-nothing writing."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import importlib.util
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from msiam.errors import RecipeError, RunError

PACKAGE = "package://"
DRAFT = ".draft"
_VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")
_RUST = re.compile(r"\(os error (\d+)\)")
_TORCH = re.compile(r"PytorchStreamWriter|unexpected pos|iostream error")


def expand(text: str) -> str:
    """Put the environment's values in the place of ``${NAME}`` and ``${NAME:-default}``.

    As in a shell, the default also stands in for a variable that is set to nothing.

    Raises:
        RecipeError: a variable is not set and has no default.
    """

    def value(match: re.Match[str]) -> str:
        name, default = match.groups()
        found = os.environ.get(name) or default
        if found is None:
            raise RecipeError(
                f"'{text}': {name} is not set; set it, or write a default: ${{{name}:-path}}"
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
    if not package.isidentifier():
        raise RecipeError(f"'{name}': write it as package://NAME/file, NAME as it is imported")
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise RecipeError(
            f"'{name}': the package {package} is not installed; "
            f"pip install {package.replace('_', '-')}"
        )
    return Path(next(iter(spec.submodule_search_locations))) / inside


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write the file under a temporary name; it takes its place, synced, only when it is whole.

    Raises:
        RunError: the place cannot be written, or the disk is full. The file is then as it was.
    """
    draft = _draft(path)
    try:
        with room_on_disk(path):
            yield draft
        with _writing(path):
            with draft.open("rb+") as file:
                os.fsync(file.fileno())
            draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def check_place(path: Path) -> None:
    """Find out, before long work begins, whether its result can be written. Makes the folder.

    Raises:
        RunError: it cannot.
    """
    _draft(path).unlink()


def check_apart(source: Path | None, *outs: Path) -> None:
    """Raise, before long work begins, where a result would take the place of what it is made of.

    Raises:
        RunError: one of ``outs`` is the source.
    """
    for out in outs:
        if source is not None and out.resolve() == source.resolve():
            raise RunError(
                f"{out}: is the table that is read, and would be replaced; give another file with "
                "--out"
            )


def is_draft(path: Path) -> bool:
    """Whether a process was killed in writing this, a file or a model's folder, to be renamed."""
    return path.name.startswith(".") and path.suffix == DRAFT


def _draft(path: Path) -> Path:
    """An empty file beside ``path``, in a folder that is made where it is missing."""
    draft = path.with_name(f".{path.name}.{os.getpid()}{DRAFT}")
    with _writing(path):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.touch()
    return draft


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    """What the system has against the place itself, as one clear line."""
    try:
        with room_on_disk(path):
            yield
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error.strerror})") from error


def take_lock(lock: TextIO, shared: bool = False) -> None:
    """Be the one process that holds an opened file, until it is closed or the process is gone.

    Args:
        shared: be one of several that hold it.

    Raises:
        BlockingIOError: another process holds it, or its owner has removed it since it was opened
            here.
    """
    fcntl.flock(lock, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    with contextlib.suppress(FileNotFoundError):
        if os.path.samestat(os.fstat(lock.fileno()), Path(lock.name).stat()):
            return
    raise BlockingIOError(errno.EAGAIN, "removed by its owner", lock.name)


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
    except Exception as error:
        reason = _no_room(error)
        if reason is None:
            raise
        raise RunError(
            f"{path}: no room to write it ({reason}); free some space and run the same again, "
            "a training or an embedding with --resume"
        ) from error


def _no_room(error: Exception) -> str | None:
    """What an error says about the disk, if that is what it is about.

    Only Python's own writing raises ``OSError``. Libraries in Rust (safetensors, tokenizers) put
    the number into a text, and ``torch.save`` says no more than that it could not write on.
    """
    if _TORCH.search(str(error)):
        return "torch.save could not write on"
    rust = _RUST.search(str(error))
    number = error.errno if isinstance(error, OSError) else int(rust[1]) if rust else None
    return os.strerror(number) if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else None


def is_file(name: str) -> bool:
    """Whether there is a file of that name; any text may be asked about."""
    try:
        return Path(name).is_file()
    except (OSError, ValueError):  # longer than a name can be, or with a character that none has
        return False
