"""Two processes that embed one table, as torchrun starts them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from msiam import Model
from msiam.embed import ROWS, embed_table

ENVIRONMENT = {
    **{k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")},
    "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "",
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a model, a table of 30 windows and its embeddings, as one process makes them."""
    folder = tmp_path_factory.mktemp("torchrun")
    model = Model({"text": {"encoder": "lstm", "dim": 8, "hidden": 8}}, {"text": "text"})
    model.tower("text").fit([f"a heart {n}" for n in range(9)])
    model.eval().save(folder / "model")
    cells = ("" if n % 5 == 2 else f"a heart {n % 97} {n % 9}" for n in range(30 * ROWS - 100))
    lines = "".join(f"s{n},{cell}\n" for n, cell in enumerate(cells))
    (folder / "t.csv").write_text("key,text\n" + lines, encoding="utf-8")
    out = folder / "right.parquet"
    embed_table(Model.load(folder / "model"), str(folder / "t.csv"), out, "text", "key")
    return folder


def torchrun(place: Path, out: str, *options: str) -> subprocess.Popen[str]:
    command = ["embed", "model", "t.csv", "--id", "key", "--out", out, *options]
    meet = ["--standalone", "--nproc-per-node=2", "--local-addr=127.0.0.1"]
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", *meet, "-m", "msiam", *command],
        cwd=place, env=ENVIRONMENT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def test_where_one_of_two_dies_the_other_says_so_and_they_go_on_to_the_same_file(place):
    parts = place / ".v.parquet.parts"
    with torchrun(place, "v.parquet") as started:
        while len(written := list(parts.glob("*.parquet"))) < 2 and started.poll() is None:
            time.sleep(0.01)
        children = Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text().split()
        os.kill(int(children[1]), signal.SIGKILL)
        _, err = started.communicate(timeout=120)
        assert started.returncode == 1
    assert "SIGKILL" in err or "signal 9" in err.lower(), err
    assert not (place / "v.parquet").exists()
    kept = {path: path.stat().st_mtime_ns for path in written if path.suffix == ".parquet"}
    with torchrun(place, "v.parquet") as started:  # asked for nothing, and so left as it is
        _, err = started.communicate(timeout=120)
        assert "unfinished embedding of it is there; go on with --resume" in err
        assert started.returncode == 1
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    with torchrun(place, "v.parquet", "--resume") as started:
        said, err = started.communicate(timeout=120)
        assert started.returncode == 0, err
    assert said.count("embeddings of 8 numbers") == 1  # the first alone speaks
    assert (place / "v.parquet").read_bytes() == (place / "right.parquet").read_bytes()
    assert not parts.exists()
