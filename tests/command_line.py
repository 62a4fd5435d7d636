"""The command line under test, and a table for it to read."""

import contextlib
import csv
import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from msiam.cli import main

Command = Callable[..., subprocess.CompletedProcess[str]]

THINGS = ("cat", "dog", "house", "boat", "tree", "river", "stone", "bird", "road", "car")
COLOURS = ("red", "green", "blue", "black", "white", "grey")


def run_process(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The installed command, in a process of its own."""
    program = Path(sys.executable).with_name("msiam")
    return subprocess.run(
        [program, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=600
    )


def run_command(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The same, from its entry point on, in this process: it need not import torch again."""
    out, err, before = io.StringIO(), io.StringIO(), (sys.argv, Path.cwd())
    code: object = 0
    sys.argv = ["msiam", *map(str, arguments)]
    os.chdir(cwd)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as exit:
        code = exit.code or 0
    finally:
        sys.argv = before[0]
        os.chdir(before[1])
    assert isinstance(code, int)
    return subprocess.CompletedProcess(list(arguments), code, out.getvalue(), err.getvalue())


def write_pairs(path: Path) -> Path:
    """60 questions about things, each with one that is the same and one that is not."""
    things = [f"{colour} {thing}" for colour in COLOURS for thing in THINGS]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["key", "question1", "question2", "is_duplicate"])
        for n, thing in enumerate(things):
            other = things[(n + 17) % len(things)]
            writer.writerow([f"s{n}", f"where is the {thing}", f"tell me where a {thing} is", 1])
            writer.writerow([f"d{n}", f"who has my {thing}", f"who ever had some {other}", 0])
    return path
