"""Embedding, killed and resumed, and its memory: real processes."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import forked
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from forked import end

SCRIPT = str(Path(__file__).with_name("process.py"))
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
ROWS = [{"key": f"k{n}", "text": "" if n % 9 == 4 else "x" * (n % 37)} for n in range(100)]


@pytest.fixture(scope="module")
def server():
    with forked.server(SCRIPT, "serve") as process:
        yield process


def start(server, table, out, rows, step=0):
    return forked.start(server, "embed", table, out, rows, step)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("table") / "t.parquet"
    pq.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=13)
    return path


@pytest.fixture(scope="module")
def right(server, table):
    """The file that an embedding writes which nobody stops."""
    out = table.with_name("right.parquet")
    start(server, table, out, 16)
    assert end(server) == 0, server.stderr.readline()
    assert pq.read_metadata(out).num_rows == 100
    return out.read_bytes()


def only_file(out):
    return [path.name for path in out.parent.iterdir()] == [out.name]


def test_killed_at_every_step_it_goes_on_to_the_same_file(server, table, right, tmp_path):
    killed = 0
    for step in range(1, 300):
        out = tmp_path / str(step) / "v.parquet"
        start(server, table, out, 16, step)
        code = end(server)
        assert not out.exists() or out.read_bytes() == right
        if code == 0:
            break
        assert code == -signal.SIGKILL
        killed += 1
        start(server, table, out, 16)
        assert end(server) == 0, server.stderr.readline()
        assert out.read_bytes() == right and only_file(out)
    assert code == 0 and killed > 40


def test_killed_again_and_again_at_random_moments_it_ends_with_the_same_file(
    server, table, right, tmp_path
):
    chance = random.Random(0)
    began = time.monotonic()
    start(server, table, tmp_path / "timed" / "v.parquet", 1)
    assert end(server) == 0
    whole = time.monotonic() - began
    contents = set()
    for trial in range(6):
        out, kills, code = tmp_path / str(trial) / "v.parquet", 0, None
        before = 0
        while code != 0:
            pid = start(server, table, out, 1)
            time.sleep(chance.uniform(0, whole / 3))
            with contextlib.suppress(ProcessLookupError):  # it was done
                os.kill(pid, signal.SIGKILL)
            code = end(server)
            kills += code != 0
            parts = sorted(out.parent.glob(".v.parquet.parts/*.parquet"))
            done = 100 if out.exists() else len(parts)
            assert done >= before, "what was whole was lost"
            before = done
            if code == 0:
                break
            assert kills < 500
        contents.add(out.read_bytes())
        assert only_file(out)
    assert contents == {(tmp_path / "timed" / "v.parquet").read_bytes()}


def test_beside_a_whole_result_nothing_is_left_of_one_that_was_killed(server, table, tmp_path):
    out = tmp_path / "v.parquet"
    for _ in range(2):
        start(server, table, out, 16)
        assert end(server) == 0, server.stderr.readline()
        assert only_file(out)
        (tmp_path / ".v.parquet.123.draft").touch()  # as it looks whether it may write there


def test_windows_that_are_whole_are_not_embedded_again(server, table, tmp_path):
    out = tmp_path / "v.parquet"
    start(server, table, out, 16, 40)
    assert end(server) == -signal.SIGKILL
    parts = {p: p.stat().st_mtime_ns for p in tmp_path.glob(".v.parquet.parts/*.parquet")}
    assert 0 < len(parts) < 7
    start(server, table, out, 16, 25)
    assert end(server) == -signal.SIGKILL
    assert {path: path.stat().st_mtime_ns for path in parts} == parts
    assert len(list(tmp_path.glob(".v.parquet.parts/*.parquet"))) > len(parts)


def test_two_processes_do_not_write_one_file(server, table, tmp_path):
    out = tmp_path / "v.parquet"
    pid = start(server, table, out, 1)
    while not list(tmp_path.glob(".v.parquet.parts/*.parquet")):
        time.sleep(0.001)
    os.kill(pid, signal.SIGSTOP)
    second = subprocess.run(
        [sys.executable, SCRIPT, "peak", "embed", str(table), str(out)],
        capture_output=True, text=True, env=ENVIRONMENT,
    )  # fmt: skip
    os.kill(pid, signal.SIGCONT)
    assert end(server) == 0 and out.is_file()
    assert "another process is writing it" in second.stderr


WRITERS = {
    ".parquet": lambda rows, path: pq.write_table(
        pa.Table.from_pylist(rows), path, row_group_size=500, use_dictionary=False
    ),
    ".csv": lambda rows, path: pa.csv.write_csv(pa.Table.from_pylist(rows), path),
    ".jsonl": lambda rows, path: path.write_text("\n".join(map(json.dumps, rows))),
}


def peak(what, count, suffix, folder):
    """The most memory of a fresh process that goes through so many texts of 4,000 characters."""
    chance = random.Random(0)
    rows = [{"key": f"k{n}", "text": chance.randbytes(2000).hex()} for n in range(count)]
    WRITERS[suffix](rows, folder / f"t{count}{suffix}")
    done = subprocess.run(
        [sys.executable, SCRIPT, "peak", what, str(folder / f"t{count}{suffix}"),
         str(folder / f"v{count}.parquet")],
        capture_output=True, text=True, env=ENVIRONMENT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.parametrize("suffix", WRITERS)
def test_ten_times_the_items_take_no_more_memory(suffix, tmp_path):
    """The cells alone would be 72 MB more, and the embeddings 147 MB; blocks and buffers fill."""
    few = peak("embed", 2_000, suffix, tmp_path)
    many = peak("embed", 20_000, suffix, tmp_path)
    assert many - few < 60 << 20  # on a busy machine 46 were seen


def test_a_gallery_of_three_times_the_items_takes_little_more_memory(tmp_path):
    """The cells alone would be 80 MB more. The index holds vectors of 8 numbers."""
    few = peak("index", 10_000, ".parquet", tmp_path)
    many = peak("index", 30_000, ".parquet", tmp_path)
    assert many - few < 40 << 20
