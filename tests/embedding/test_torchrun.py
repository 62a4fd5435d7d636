"""Two processes that embed one table, as torchrun starts them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import run_command

from msiam import Model
from msiam.embedding import table

SCRIPT = Path(__file__).with_name("process.py")
WINDOWS, ROWS = 40, 16
ENVIRONMENT = {
    **{k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")},
    "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "",
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a model, a table of 40 windows and what one process makes of it."""
    folder = tmp_path_factory.mktemp("torchrun")
    model = Model({"text": {"encoder": "lstm", "dim": 8, "hidden": 8}}, {"text": "text"})
    model.tower("text").fit([f"a heart {n}" for n in range(9)])
    model.eval().save(folder / "model")
    cells = ("" if n % 5 == 2 else f"a heart {n % 97} {n % 9}" for n in range(WINDOWS * ROWS - 7))
    lines = "".join(f"s{n},{cell}\n" for n, cell in enumerate(cells))
    (folder / "t.csv").write_text("key,text\n" + lines, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table, "ROWS", ROWS)
        done = run_command(*embed("right.parquet"), cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def embed(out: str, *options: str) -> list[str]:
    return ["embed", "model", "t.csv", "--id", "key", "--out", out, *options]


def torchrun(place: Path, pause: float, *command: str) -> subprocess.Popen[str]:
    meet = ["--standalone", "--nproc-per-node=2", "--local-addr=127.0.0.1"]
    script = [str(SCRIPT), "command", str(ROWS), str(pause)]
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", *meet, *script, *command],
        cwd=place, env=ENVIRONMENT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def test_where_one_of_two_dies_the_other_says_so_and_they_go_on_to_the_same_file(place):
    parts = place / ".v.parquet.parts"
    with torchrun(place, 0.2, *embed("v.parquet")) as started:
        while len(written := list(parts.glob("*.parquet"))) < 3 and started.poll() is None:
            time.sleep(0.01)
        children = Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text().split()
        os.kill(int(children[1]), signal.SIGKILL)
        _, err = started.communicate(timeout=120)
        assert started.returncode == 1
    assert "SIGKILL" in err or "signal 9" in err.lower(), err
    assert not (place / "v.parquet").exists()
    kept = {int(path.stem): path.stat().st_mtime_ns for path in written}
    assert 0 in kept and any(start >= WINDOWS * ROWS / 2 for start in kept)  # a stretch for each
    seen = {}
    with torchrun(place, 0.05, *embed("v.parquet", "--resume")) as started:
        while started.poll() is None:
            for path in parts.glob("*.parquet"):
                with contextlib.suppress(FileNotFoundError):  # the last step has taken it
                    seen.setdefault(int(path.stem), path.stat().st_mtime_ns)
            time.sleep(0.01)
        said, err = started.communicate(timeout=120)
        assert started.returncode == 0, err
    assert kept.items() <= seen.items(), "what was whole was embedded again"
    assert said.count("embeddings of 8 numbers") == 1  # the first alone speaks
    assert (place / "v.parquet").read_bytes() == (place / "right.parquet").read_bytes()
    assert not parts.exists()
