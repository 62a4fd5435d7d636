"""What a plugin may add to msiam. This file, read from top to bottom, is the list.

A hook registers *light specs*: a name and where to import it from, as ``"package.module:Class"``.
Nothing named here is imported until somebody builds it, so that listing plugins needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import pluggy

if TYPE_CHECKING:
    import typer

hookspec = pluggy.HookspecMarker("msiam")
hookimpl = pluggy.HookimplMarker("msiam")


class RegisterEncoder(Protocol):
    def __call__(
        self,
        name: str,
        target: str,
        *,
        modality: str,
        preset: dict[str, object] | None = None,
        summary: str = "",
        extra: str | None = None,
    ) -> None: ...


class Register(Protocol):
    def __call__(
        self, name: str, target: str, *, summary: str = "", extra: str | None = None
    ) -> None: ...


class RegisterSource(Protocol):
    def __call__(
        self,
        name: str,
        target: str,
        *,
        suffixes: tuple[str, ...],
        summary: str = "",
        extra: str | None = None,
    ) -> None: ...


@hookspec
def msiam_encoders(register: RegisterEncoder) -> None:
    """Add encoders: subclasses of ``msiam.Encoder``. ``preset`` fills options in beforehand."""


@hookspec
def msiam_losses(register: Register) -> None:
    """Add losses: subclasses of ``msiam.Loss``."""


@hookspec
def msiam_miners(register: Register) -> None:
    """Add miners: subclasses of ``msiam.Miner``, which choose the negatives of a batch."""


@hookspec
def msiam_sources(register: RegisterSource) -> None:
    """Add tables: functions ``(path) -> datasets.Dataset``, found by the file's suffix, or classes
    that make rows as their ``Options`` say, found by their name."""


@hookspec
def msiam_backends(register: Register) -> None:
    """Add index backends: subclasses of ``msiam.Backend``, which search a gallery's vectors."""


@hookspec
def msiam_evaluators(register: Register) -> None:
    """Add evaluators: subclasses of ``msiam.Evaluator``."""


@hookspec
def msiam_commands(cli: typer.Typer) -> None:
    """Add commands to ``msiam``: decorate functions with ``@cli.command()``."""
