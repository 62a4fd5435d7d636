"""How soon msiam answers: each start beside ``import torch``, in processes of their own.

    python benchmarks/startup.py

Exits with 1 where the fastest of the repetitions misses its bound. Where its own processor time is
the less, that counts: what other work on the machine takes away is no part of a start.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msiam

#: The seconds that each may take; None: only there to compare with.
BOUNDS = {
    "import torch": None,
    "import msiam": 0.15,
    "msiam --help": 0.4,
    "msiam plugins": 0.4,
    "search, LSTM": 4.0,
    "search, transformer": 4.0,
}
ENCODERS = ("lstm", "transformer")
QUERY = "where is the red cat"


def commands(folder: Path) -> dict[str, list[str]]:
    """The command line of each."""
    program = [sys.executable, "-m", "msiam"]
    return {
        "import torch": [sys.executable, "-c", "import torch"],
        "import msiam": [sys.executable, "-c", "import msiam"],
        "msiam --help": [*program, "--help"],
        "msiam plugins": [*program, "plugins"],
        "search, LSTM": [*program, "search", str(folder / "lstm"), QUERY],
        "search, transformer": [*program, "search", str(folder / "transformer"), QUERY],
    }


def build_galleries(folder: Path) -> None:
    """A gallery of a small run for each encoder, after two steps of training."""
    things = [f"{colour} {thing}" for colour in ("red", "blue") for thing in ("cat", "car", "dog")]
    rows = [
        {"question": f"where is the {thing} {number}", "same": f"tell me where {thing} {number} is"}
        for thing in things
        for number in range(10)
    ]
    for name in ENCODERS:
        model = msiam.Model({"text": {"encoder": name}}, {"question": "text", "same": "text"})
        run = msiam.train(model, rows, folder=folder / f"run-{name}", max_steps=2)
        msiam.Gallery.build(run.model, rows, "question", folder / name, run=folder / f"run-{name}")


def seconds(command: list[str]) -> tuple[float, float]:
    """How long a command takes from its start to its end, and how long it holds a processor."""

    def processor() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    began, used = time.perf_counter(), processor()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began, processor() - used


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repetitions", type=int, default=5)
    repetitions = parser.parse_args().repetitions
    with tempfile.TemporaryDirectory() as folder:
        build_galleries(Path(folder))
        ways = commands(Path(folder))
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for number in range(repetitions + 1):
            for name, command in ways.items():
                once = seconds(command)
                if number > 0:  # the first one finds files that are not in memory yet
                    found[name].append(once)
    torch = min(map(min, found["import torch"]))
    missed = 0
    print(f"{'':<20}{'fastest':>10}{'median':>9}{'processor':>11}{'bound':>9}{'of torch':>10}")
    for name, times in found.items():
        walls, processors = zip(*times, strict=True)
        bound, taken = BOUNDS[name], min(*walls, *processors)
        late = bound is not None and taken > bound
        missed += late
        print(
            f"{name:<20}{min(walls):>8.2f} s{statistics.median(walls):>7.2f} s"
            f"{min(processors):>9.2f} s{'' if bound is None else f'{bound:.2f} s':>9}"
            f"{taken / torch:>8.2f} ×{'  missed' if late else ''}"
        )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
