"""Where long work tells how far it is, and the bar that it shows there."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

#: People read stderr while results go to stdout, so that a script can take them. What is printed is
#: mostly the user's own (texts, paths, reasons): "[note]" in it is no markup, ":car:" no emoji.
SHOWN = Console(stderr=True, markup=False, emoji=False, highlight=False)
QUIET = Console(quiet=True)


def progress_bar(console: Console) -> Progress:
    """A bar; what else there is to say goes into the field ``note`` of its task."""
    return Progress(
        TextColumn("{task.description:<12}"),
        BarColumn(bar_width=32),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", style="dim"),
        console=console,
        transient=True,
        disable=not console.is_terminal,  # of a file it would make an empty line
    )


@contextlib.contextmanager
def items_bar(
    console: Console, task: str, total: int | None = None, done: int = 0
) -> Iterator[Callable[[int], None]]:
    """A bar for items with items/s; call it with how many more are done.

    Args:
        done: how many were done before; they do not count into the speed.
    """
    with progress_bar(console) as bar:
        number = bar.add_task(task, total=total, completed=done, note="")
        began, now = time.perf_counter(), 0

        def advance(more: int) -> None:
            nonlocal now
            now += more
            speed = now / (time.perf_counter() - began)
            bar.update(number, advance=more, note=f"{speed:,.0f} items/s")

        yield advance
