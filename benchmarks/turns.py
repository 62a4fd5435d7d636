"""Two processes, ours and theirs, that take turns, and the table of what they took.

In turns, so that what else the machine does falls on both; a process each, so that each has a peak
of memory of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

CORES = 2
#: Threads that wait for one another sleep. If they spin, what else the machine does is multiplied.
SLEEPING = {"OMP_WAIT_POLICY": "passive"}
STATUS = Path("/proc/self/status")


# ---- In the process of a side


class Channel:
    """What a side tells, and the steps that it is asked for.

    What packages print from here on goes to standard error.
    """

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)

    def tell(self, what: Any) -> None:
        print(json.dumps(what), file=self._out, flush=True)

    def asked(self) -> Iterator[int]:
        """Each number of steps that is asked for, until no more are."""
        for line in sys.stdin:
            if int(line) == 0:
                return
            yield int(line)

    def answer(self, step: Callable[[], Any]) -> None:
        """Tell what the steps that are asked for took, in seconds."""
        for count in self.asked():
            start = time.perf_counter()
            for _ in range(count):
                step()
            self.tell(time.perf_counter() - start)


def peak() -> int:
    """The most bytes that this process has held at once."""
    # getrusage counts what the parent held before, too.
    return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def held() -> int:
    """The bytes that this process holds; from here on, ``peak`` is of what comes after."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS") or peak()


def _status(key: str) -> int:
    if not STATUS.exists():
        return 0
    (line,) = (one for one in STATUS.read_text().splitlines() if one.startswith(key))
    return int(line.split()[1]) * 1024


# ---- In the process that asks


class Side:
    """The process of one side, begun by a Python file and its arguments.

    Args:
        log: where its standard error goes; None: to that of this process.
        spins: its threads wait for one another as they do anywhere, spinning, and do not sleep.

    Raises:
        RuntimeError: it ended before it answered; says with what.
    """

    def __init__(self, *command: str, log: Path | None = None, spins: bool = False) -> None:
        self.log = log
        with contextlib.ExitStack() as opened:
            self.process = subprocess.Popen(
                [sys.executable, *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=None if log is None else opened.enter_context(log.open("w")),
                text=True,
                env={**os.environ, **({} if spins else SLEEPING)},
            )

    def read(self) -> Any:
        """What it tells next."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            said = f": {self._last_line()}" if self.log else ""
            raise RuntimeError(f"ended with {self.process.wait()}{said}")
        return json.loads(line)

    def take(self, steps: int) -> float:
        """What a step takes, in seconds, as the mean of several."""
        assert self.process.stdin is not None
        print(steps, file=self.process.stdin, flush=True)
        return self.read() / steps

    def _last_line(self) -> str:
        assert self.log is not None
        lines = self.log.read_text(encoding="utf-8", errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "without a word")

    def finish(self) -> Any:
        """What it tells when no more steps are asked for."""
        assert self.process.stdin is not None
        print(0, file=self.process.stdin, flush=True)
        return self.read()

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def in_turns(
    sides: Sequence[Side], steps: Sequence[int], turns: tuple[int, int], budget: float
) -> list[list[float]]:
    """What a step takes, in seconds, by side and turn.

    Args:
        steps: of each side, how many are a turn.
        turns: the fewest, but where they take twice the budget, and the most.
        budget: after how many seconds there have been enough of them.
    """
    taken: list[list[float]] = [[] for _ in sides]
    begun = time.perf_counter()
    while len(taken[0]) < turns[1]:
        spent = time.perf_counter() - begun
        if len(taken[0]) >= (turns[0] if spent < 2 * budget else 1) and spent > budget:
            break
        for side, count, found in zip(sides, steps, taken, strict=True):
            found.append(side.take(count))
    return taken


# ---- A table


def spread(ratios: Sequence[float]) -> str:
    """The median, and from where to where."""
    return f"{statistics.median(ratios):.3g} ({min(ratios):.3g} to {max(ratios):.3g})"


def in_seconds(value: float) -> str:
    return f"{value:.3g} s" if value >= 1 else f"{value * 1e3:.3g} ms"


def in_bytes(value: float) -> str:
    return f"{value / 1e9:.3g} GB" if value >= 1e9 else f"{value / 1e6:.3g} MB"


def write_table(page: Path, marks: tuple[str, str], table: str) -> None:
    """Write a page with this table between two lines of it."""
    begin, end = marks
    before, found, rest = page.read_text(encoding="utf-8").partition(f"{begin}\n")
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise SystemExit(f"{page}: has no lines '{begin}' and '{end}' to write between")
    page.write_text(before + found + table + end + after, encoding="utf-8")


def update_table(
    page: Path, marks: tuple[str, str], heading: str, lines: Sequence[str], titles: Sequence[str]
) -> None:
    """Write a table's lines in the order of their titles, the first cells.

    A line that is not given stays as the page has it.
    """
    table = page.read_text(encoding="utf-8").partition(marks[0])[2].partition(marks[1])[0]
    known = {_title(line): line for line in (*table.splitlines(), *lines)}
    found = [known[title] for title in titles if title in known]
    write_table(page, marks, heading + "".join(f"{line}\n" for line in found))


def _title(line: str) -> str:
    return line.removeprefix("| ").partition(" | ")[0]
