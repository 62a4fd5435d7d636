"""Encoding and training beside what people use instead: speed, memory, and that they agree.

    python benchmarks/speed.py [ROW ...] [--tiny]

A row is a process of theirs and one or more of ours that do the same work on the same data, on two
cores. Before any time is taken they must agree: on the vectors of what is encoded, and of a
training on the losses of its first three steps, with nothing dropped out. Then they take turns, so
that what else the machine does falls on both. Loading is in no turn. Memory is what a process grows
by, at most, above what it held when it was loaded.

Writes what was measured into the table of docs/performance.md; rows that were left out stand there
as they did. Exits with 1 where a ratio is missed. Rows whose data (in MSIAM_DATA) or peer is not
there are left out by name. --tiny: a few items, to see that all of it runs; there only agreement is
judged.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib.util
import os
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import speed_data
from rich.console import Console
from rich.table import Table
from speed_plans import Encoding, Job, Training
from speed_rows import ROWS, Line, Row
from turns import CORES, Channel, Side, in_bytes, in_turns, spread, update_table

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs/performance.md"
MARKS = "<!-- bench -->", "<!-- end of bench -->"
HEADING = (
    "work",
    "against",
    "theirs",
    "ours",
    "times as fast",
    "must",
    "memory: theirs",
    "ours",
    "ours / theirs",
    "must",
    "they agree",
)


def serve(row: Row, side: str, folder: str, tiny: bool, check: bool) -> None:
    """Be one side of a row."""
    import torch

    torch.set_num_threads(CORES)
    job = Job(side, Path(folder), Channel())
    row.serve(side)(job, planned(row, tiny, check, job))


def planned(row: Row, tiny: bool, check: bool, job: Job | None = None) -> Encoding | Training:
    plan = row.plan.tiny() if tiny else row.plan
    if isinstance(plan, Training) and check:
        plan = plan.checking()
        if job is not None:
            plan = dataclasses.replace(plan, batch=len(job.read("train.json")))
    return plan


# ---- A row


@dataclass(frozen=True)
class Measured:
    """What a line came to. Seconds are of a step, by turn; bytes are theirs and ours."""

    row: Row
    side: str
    items: int
    theirs: list[float]
    ours: list[float]
    bytes: tuple[int, int]
    agreed: str

    @property
    def line(self) -> Line:
        return self.row.lines[self.side]

    @property
    def name(self) -> str:
        return self.row.name if self.side == "ours" else f"{self.row.name}, {self.side}"

    @property
    def ratios(self) -> list[float]:
        return [theirs / ours for theirs, ours in zip(self.theirs, self.ours, strict=True)]

    def missed(self) -> list[str]:
        """What is not as it must be."""
        line, (theirs, ours) = self.line, self.bytes
        ratio, share = statistics.median(self.ratios), ours / max(theirs, 1)
        found = []
        if line.ratio is not None and not ratio >= line.ratio:
            found.append(f"{ratio:.3g} times as fast, must be at least {line.ratio:g}")
        if line.memory is not None and not share <= line.memory:
            found.append(f"memory {share:.3g} of theirs, must be at most {line.memory:g}")
        return [f"{self.name}: {one}" for one in found]

    def cells(self) -> list[str]:
        line, (theirs, ours) = self.line, self.bytes
        return [
            line.work,
            self.row.against,
            *(self._rate(seconds) for seconds in (self.theirs, self.ours)),
            spread(self.ratios),
            f"≥ {line.ratio:g}" if line.ratio else "",
            in_bytes(theirs),
            in_bytes(ours),
            f"{ours / max(theirs, 1):.3g}",
            f"≤ {line.memory:g}" if line.memory else "",
            self.agreed,
        ]

    def _rate(self, seconds: Sequence[float]) -> str:
        rate = self.items / statistics.median(seconds)
        return f"{rate:,.0f} {self.row.unit}" if rate >= 100 else f"{rate:.3g} {self.row.unit}"


class DisagreeError(Exception):
    """The two sides come to different things; says to which."""


def measure(row: Row, tiny: bool) -> list[Measured]:
    """Let the sides agree, and then take turns.

    Raises:
        DisagreeError: they do not agree.
        RuntimeError: a side ended before it answered.
    """
    plan = planned(row, tiny, check=False)
    turns = (1, 1) if tiny else row.turns
    names = ["theirs", *row.lines]
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as open_sides:
        place = Path(folder)
        os.environ["MSIAM_CACHE"] = folder
        agreed = {}
        if isinstance(plan, Training):
            agreed = losses_agree(row, tiny, place)
            plan.write(place)
        sides = []
        for name in names:
            sides.append(open_sides.enter_context(begun(row, name, place, tiny)))
            sides[-1].read()
        if isinstance(plan, Encoding):
            agreed = vectors_agree(row, place)
            steps, items = [1] * len(sides), plan.turn
        else:
            steps, items = [plan.turns[0], *[plan.turns[1]] * len(row.lines)], plan.batch
        theirs, *ours = in_turns(sides, steps, turns, row.budget)
        memory = [side.finish()["bytes"] for side in sides]
        if isinstance(plan, Training) and plan.held_out:
            agreed = curves_agree(row, place, tiny)
        return [
            Measured(row, side, items, theirs, taken, (memory[0], own), agreed[side])
            for side, taken, own in zip(row.lines, ours, memory[1:], strict=True)
        ]


@contextlib.contextmanager
def begun(row: Row, side: str, folder: Path, tiny: bool, check: bool = False) -> Iterator[Side]:
    options = ["--tiny"] * tiny + ["--check"] * check
    command = (__file__, row.name, "--side", side, str(folder), *options)
    process = Side(*command, log=folder / f"{side}.log", spins=True)
    try:
        yield process
    finally:
        process.close()


def vectors_agree(row: Row, folder: Path) -> dict[str, str]:
    """The least cosine of two vectors of one item, theirs and ours, by side."""
    theirs = np.load(folder / "theirs.npy").astype(np.float64)
    found = {}
    for side in row.lines:
        ours = np.load(folder / f"{side}.npy").astype(np.float64)
        lengths = np.linalg.norm(theirs, axis=1) * np.linalg.norm(ours, axis=1)
        least = float(((theirs * ours).sum(1) / lengths).min())
        if not least >= row.agree:
            raise DisagreeError(f"the least cosine is {least:.6f}, must be at least {row.agree}")
        found[side] = f"least cosine {least:.6f}"
    return found


def losses_agree(row: Row, tiny: bool, folder: Path) -> dict[str, str]:
    """The most that the losses of three steps without dropout differ, relatively, by side."""
    with tempfile.TemporaryDirectory(dir=folder) as inner:
        planned(row, tiny, check=True).write(Path(inner))  # type: ignore[union-attr]
        losses = {}
        for side in ("theirs", *row.lines):
            with begun(row, side, Path(inner), tiny, check=True) as process:
                losses[side] = process.read()["losses"]
    theirs = losses.pop("theirs")
    found = {}
    for side, ours in losses.items():
        most = max(abs(o - t) / abs(t) for o, t in zip(ours, theirs, strict=True))
        if not most <= row.agree:
            raise DisagreeError(
                f"losses differ by {most:.1e}, must be at most {row.agree:g}: "
                f"theirs are {theirs}, ours {ours}"
            )
        found[side] = f"losses differ by {most:.0e}"
    return found


def curves_agree(row: Row, folder: Path, tiny: bool) -> dict[str, str]:
    """Areas under the curve on what was held out, of theirs and ours: the means over all seeds."""
    same = np.array([one["label"] == 1 for one in Job("", folder, None).read("held_out.json")])
    areas = {
        side: np.array([auc(scores, same) for scores in np.load(folder / f"{side}.npy")])
        for side in ("theirs", *row.lines)
    }
    theirs = areas.pop("theirs")
    for ours in areas.values():
        if not tiny and row.auc is not None and not abs(ours.mean() - theirs.mean()) <= row.auc:
            raise DisagreeError(
                f"AUC {areas_of(ours)}, theirs {areas_of(theirs)}: must be within {row.auc:g}"
            )
    return {side: f"AUC {areas_of(own)}, theirs {areas_of(theirs)}" for side, own in areas.items()}


def areas_of(seeds: np.ndarray) -> str:
    """Their mean, and from where to where."""
    if len(seeds) == 1:
        return f"{seeds[0]:.4f}"
    return f"{seeds.mean():.4f} ({seeds.min():.4f} to {seeds.max():.4f})"


def auc(scores: np.ndarray, same: np.ndarray) -> float:
    """How often a pair that is the same scores above one that is not; ties are half of it."""
    _, level, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (counts.cumsum() - (counts - 1) / 2)[level]
    positives, negatives = int(same.sum()), int((~same).sum())
    return float((ranks[same].sum() - positives * (positives + 1) / 2) / (positives * negatives))


# ---- All rows


def left_out(row: Row) -> str | None:
    """Why a row cannot be measured here."""
    for file in row.files:
        if not speed_data.place(file).is_file():
            return f"{row.name}: left out, there is no {speed_data.place(file)}; set MSIAM_DATA"
    for peer in row.peers:
        if importlib.util.find_spec(peer) is None:
            return f"{row.name}: left out, {peer} is not installed; take the extra 'bench'"
    return None


def shown(found: Sequence[Measured]) -> Table:
    """What fits into a terminal."""
    table = Table("row", "times as fast", "must", "memory", "must", "they agree")
    for one in found:
        _, _, _, _, ratio, must, _, _, memory, limit, agreed = one.cells()
        table.add_row(one.name, ratio, must, memory, limit, agreed)
    return table


def markdown(heading: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [heading, ["---"] * len(heading), *lines]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", help="their names; all by default")
    parser.add_argument("--tiny", action="store_true", help="a few items, to see that it runs")
    parser.add_argument("--side", nargs=2, metavar=("SIDE", "FOLDER"), help="one process")
    parser.add_argument("--check", action="store_true", help="of it, its losses")
    arguments = parser.parse_args()
    for name in arguments.rows:
        if name not in ROWS:
            parser.error(f"no row '{name}'; there are {', '.join(ROWS)}")
    if arguments.side:
        serve(ROWS[arguments.rows[0]], *arguments.side, arguments.tiny, arguments.check)
        return 0
    console = Console(markup=False, highlight=False)
    measured: list[Measured] = []
    notes, missed = [], []
    for name in arguments.rows or ROWS:
        row = ROWS[name]
        if reason := left_out(row):
            notes.append(reason)
            continue
        try:
            found = measure(row, arguments.tiny)
        except (DisagreeError, RuntimeError) as error:
            missed.append(f"{name}: {error}")
            console.print(missed[-1], soft_wrap=True)
            continue
        for one in found:
            missed += [] if arguments.tiny else one.missed()
            said = f"{spread(one.ratios)} times as fast, {one.agreed}"
            console.print(f"{one.name}: {said}", soft_wrap=True)
        measured += found
    console.print(shown(measured))
    for note in (*notes, *missed):
        console.print(note, soft_wrap=True)
    if measured and not arguments.tiny:
        works = [line.work for row in ROWS.values() for line in row.lines.values()]
        lines = markdown(HEADING, [one.cells() for one in measured]).splitlines()[2:]
        update_table(DOCS, MARKS, markdown(HEADING, []), lines, works)
    return 0 if measured and not missed else 1


if __name__ == "__main__":
    raise SystemExit(main())
