"""The command line: a command a file. torch is imported only inside the commands that need it."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import sys
import time
from typing import Annotated

import typer

from msiam.cli.console import follows
from msiam.errors import MsiamError
from msiam.registry import registry

#: The file of each command; its function has the same name.
COMMANDS = (
    "train", "evaluate", "embed", "index", "add", "remove", "compact", "check", "search", "tune",
    "match", "dedupe", "serve", "mine", "plugins", "demo",
)  # fmt: skip


#: Seconds after which another process than the first says itself what is wrong.
SAID_BY_THE_FIRST = 10


def application() -> typer.Typer:
    """All commands: the core's, then what plugins add."""
    cli = typer.Typer(
        name="msiam",
        help="The toolkit for matching things with two towers: train, evaluate, index, search.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # it would leave out defaults, which stand in [brackets]
    )
    cli.callback(invoke_without_command=True)(options)
    for name in COMMANDS:
        module = importlib.import_module(f"msiam.cli.{name}")
        cli.command(name)(getattr(module, name))
    registry().add_commands(cli)
    return cli


def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True)
    ] = False,
) -> None:
    if version:
        print(importlib.metadata.version("msiam"))
        raise typer.Exit


def main() -> None:
    """Run the command line. A user's mistake is one line on stderr and exit code 2.

    Of several processes that torchrun started, the first one prints. What is wrong is mostly wrong
    in all of them: the others wait, and torchrun ends them when the first one has said it.
    """
    # Tokenizers may use every core, since no worker process is forked beside their threads; and
    # there are no notices of libraries between our own lines.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    if "RANK" in os.environ:
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    try:
        application()()
    except MsiamError as error:
        if follows():
            time.sleep(SAID_BY_THE_FIRST)
        message = " ".join(str(error).split())
        print(f"msiam: {message}", file=sys.stderr)
        raise SystemExit(2) from None
