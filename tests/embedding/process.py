"""Processes that embed a table, to be killed or measured. Each has the libraries imported once.

As ``process.py serve`` it reads commands, a line each, and forks a process for each one:

    embed TABLE OUT ROWS STEP    go on embedding, and be killed at a step in OUT's folder; 0: never

It answers with the process's number, and when that is gone with how it ended.

As ``process.py peak embed|index TABLE OUT`` it prints the most memory that it ever had.
As ``process.py command ROWS PAUSE …`` it is the command line, with a pause before short windows.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "towers" / "plugin"))

import forked
import tiny_plugin

from msiam import Gallery, Model
from msiam.cli import main
from msiam.data import json_lines, sheets, streams
from msiam.embedding import table as embedding
from msiam.gallery import building
from msiam.registry import registry


def model(dim: int) -> Model:
    torch.manual_seed(0)
    if "length" not in {spec.name for spec in registry().specs("encoder")}:
        registry().add(tiny_plugin, "tiny_plugin")
    made = Model({"text": {"encoder": "length", "dim": dim}}, {"text": "text"})
    made.tower("text").fit([])
    return made.eval()


def embed_killed(table: str, out: str, rows: str, step: str) -> None:
    steps = 0

    def count(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal steps
        kinds = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir")
        if event in kinds and str(Path(out).parent) in str(arguments[0]):
            steps += 1
            if steps == int(step):
                os.kill(os.getpid(), signal.SIGKILL)

    embedding.ROWS = int(rows)
    sys.addaudithook(count)
    embedding.embed_table(model(8), table, Path(out), "text", "key", resume=True)


def peak(what: str, table: str, out: str) -> None:
    torch.set_num_threads(1)
    embedding.ROWS = building.ROWS = 256
    sheets.BLOCK, json_lines.ROWS, streams.BATCH = 1 << 19, 256, 256
    if what == "embed":
        embedding.embed_table(model(2048), table, Path(out), "text", "key")
    else:
        Gallery.build(model(8), table, "text", out, "key")
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    print(int(found[1]) * 1024)


def command(rows: str, pause: str, *words: str) -> None:
    one = Model.embed

    def late(*arguments: object, **options: object) -> object:
        time.sleep(float(pause))
        return one(*arguments, **options)

    embedding.ROWS, Model.embed = int(rows), late
    sys.argv = ["msiam", *words]
    main()


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        torch.set_num_threads(1)
        forked.serve({"embed": embed_killed})
    elif sys.argv[1] == "command":
        command(*sys.argv[2:])
    else:
        peak(*sys.argv[2:])
