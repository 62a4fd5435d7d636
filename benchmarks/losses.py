"""Each loss beside what people use instead: time, peak memory and the gradient, side by side.

    python benchmarks/losses.py [ROW ...] [--tiny]

A row is two processes, ours and theirs, that make the same tensors. They take turns, so that what
else the machine does falls on both; a process each, so that each has a peak of its own. Float32 on
two cores, forward and backward. Peak memory is what a process grows by in its first step, above
what it held with its inputs made.

Writes what was measured into the table of docs/losses.md; other rows stand as they did. Exits with
1 where a ratio is missed; one of at most 1 is missed where no turn meets it. Rows whose peer is not
installed are left out by name. --tiny: small batches, to see that all of it runs; there only the
gradients are judged.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from loss_rows import ROWS, Row
from turns import CORES, Channel, Side, in_bytes, in_seconds, in_turns, peak, spread, update_table

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs/losses.md"
MARKS = "<!-- bench-losses -->", "<!-- end -->"
HEADING = """| against | at | time: theirs | ours | ours / theirs | must | memory: theirs | ours \
| ours / theirs | must | gradients differ by |
|---|---|---|---|---|---|---|---|---|---|---|
"""
#: How long a turn lasts at least, and after how long a row has had enough of them, in seconds.
TURN, BUDGET = 0.2, 30.0
#: The fewest turns, but for steps that take minutes, and the most.
TURNS = (3, 7)
#: What gradients may differ by, as a share of the largest number in theirs.
DIFFERENCE = 1e-3


# ---- One side of a row, in a process of its own


def serve(row: Row, side: str, batch: int, gradients: str) -> None:
    """Answer each number n that is read with what n steps took, in seconds.

    The first step, whose memory is measured and gradient written, is told of without being asked.
    """
    import torch

    channel = Channel()
    torch.set_num_threads(CORES)
    row.step(side, 8)()  # what is loaded once
    step = row.step(side, batch)
    before = peak()
    start = time.perf_counter()
    found = step()
    seconds, grown = time.perf_counter() - start, peak() - before
    torch.save([gradient.clone() for gradient in found], gradients)
    channel.tell({"seconds": seconds, "bytes": grown})
    channel.answer(step)


# ---- A row


@dataclass(frozen=True)
class Measured:
    """What a row came to. Lists are by turn; ``theirs`` is None where a row has no peer."""

    row: Row
    batch: int
    ours: list[float]
    theirs: list[float] | None
    memory: tuple[int, int | None]
    difference: float | None

    @property
    def times(self) -> list[float]:
        """Ours over theirs, by turn, ascending."""
        return sorted(o / t for o, t in zip(self.ours, self.theirs or [], strict=True))

    def missed(self, tiny: bool) -> list[str]:
        """What is not as it must be."""
        row, (mine, other) = self.row, self.memory
        judged = [
            ("gradient", self.difference, DIFFERENCE),
            ("time", self._time(), row.time),
            ("memory", mine / other if other else None, row.memory),
            ("memory (GB)", mine / 1e9, row.gigabytes),
        ]
        return [
            f"{row.name}: {what} {found:.3g}, must be at most {limit:.3g}"
            for what, found, limit in judged[: 1 if tiny else None]
            if found is not None and limit is not None and not found <= limit
        ]

    def _time(self) -> float | None:
        """Ours over theirs. Where no more is asked than to be as fast, that of the best turn.

        What is above 1 by less than the turns differ is as fast.
        """
        if not self.theirs:
            return None
        return self.times[0] if self.row.time == 1 else statistics.median(self.times)

    def line(self) -> str:
        row, (mine, other) = self.row, self.memory
        ours = statistics.median(self.ours)
        at = f"B = {self.batch:,}, d = {row.width}" + (f", {row.items} a class" * (row.items > 1))
        cells = [row.title, at]
        if self.theirs:
            theirs = in_seconds(statistics.median(self.theirs))
            cells += [theirs, in_seconds(ours), spread(self.times)]
        else:
            cells += ["", in_seconds(ours), ""]
        cells += [f"≤ {row.time:.3g}" if row.time else ""]
        shown = row.memory is not None or row.gigabytes is not None
        cells += [in_bytes(other) if other and shown else "", in_bytes(mine) if shown else ""]
        cells += [f"{mine / other:.3g}" if row.memory and other else ""]
        limit = f"≤ {row.memory:.3g}" if row.memory else ""
        cells += [f"≤ {row.gigabytes} GB" if row.gigabytes else limit]
        cells += ["" if self.difference is None else f"{self.difference:.0e}"]
        return f"| {' | '.join(cells)} |"


def measure(row: Row, batch: int, tiny: bool) -> Measured:
    turns = (1, 1) if tiny else TURNS
    with tempfile.TemporaryDirectory() as folder:
        files = {side: f"{folder}/{side}.pt" for side in ("theirs", "ours")[row.alone :]}
        sides, firsts = [], []
        for name, file in files.items():
            # Theirs first, so that what may not fit is alone; memory goes back before the turns.
            sides.append(Side(__file__, row.name, "--side", name, file, str(batch)))
            firsts.append(sides[-1].read())
        seconds = [first["seconds"] for first in firsts]
        if not tiny and max(seconds) < TURN:  # of short steps, the first is not like the others
            seconds = [
                side.take(math.ceil(TURN / one)) for side, one in zip(sides, seconds, strict=True)
            ]
        steps = [1 if tiny else math.ceil(TURN / one) for one in seconds]
        taken = in_turns(sides, steps, turns, BUDGET)
        for side in sides:
            side.close()
        *theirs, ours = firsts
        return Measured(
            row,
            batch,
            taken[-1],
            taken[0] if theirs else None,
            (ours["bytes"], theirs[0]["bytes"] if theirs else None),
            difference(*files.values()) if theirs else None,
        )


def difference(theirs: str, ours: str) -> float:
    """The largest difference between two gradients, as a share of the largest number in one."""
    import torch

    pairs = list(zip(torch.load(theirs), torch.load(ours), strict=True))
    most = max(float(their.abs().max()) for their, _ in pairs)
    return max(float((their - our).abs().max()) for their, our in pairs) / most


# ---- All rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", help="their names; all by default")
    parser.add_argument("--tiny", action="store_true", help="small batches, to see that it runs")
    parser.add_argument("--side", nargs=3, metavar=("SIDE", "FILE", "BATCH"), help="one process")
    arguments = parser.parse_args()
    for name in arguments.rows:
        if name not in ROWS:
            parser.error(f"no row '{name}'; there are {', '.join(ROWS)}")
    if arguments.side:
        side, file, batch = arguments.side
        serve(ROWS[arguments.rows[0]], side, int(batch), file)
        return 0

    lines, missed, left_out = [], [], []
    print(HEADING, end="", flush=True)
    for name in arguments.rows or ROWS:
        row = ROWS[name]
        if row.peer and importlib.util.find_spec(row.peer) is None:
            left_out.append(
                f"{name}: left out, {row.peer} is not installed; take the extra 'bench'"
            )
            continue
        try:
            batch = min(row.batch, 32) if arguments.tiny else row.batch
            found = measure(row, batch, arguments.tiny)
        except RuntimeError as error:
            missed.append(f"{name}: could not be measured, a process {error}")
            continue
        lines.append(found.line())
        missed += found.missed(arguments.tiny)
        print(lines[-1], flush=True)
    print("\n".join([*left_out, *missed]))
    if not arguments.tiny:
        update_table(DOCS, MARKS, HEADING, lines, [row.title for row in ROWS.values()])
    return 0 if lines and not missed else 1


if __name__ == "__main__":
    raise SystemExit(main())
