"""docs/serving.md: its calls, run word by word, and its limits, as the code has them."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import threading
from pathlib import Path

import pytest

pytest.importorskip("uvicorn")

import uvicorn

from msiam.serving import limits
from msiam.serving.connection import LARGEST_HEAD, Connection

PAGE = (Path(__file__).parents[2] / "docs/serving.md").read_text(encoding="utf-8")


@pytest.fixture
def address(serve):
    """Of a server of the gallery of pictures, with a threshold."""
    app = serve(begin=False).app
    config = uvicorn.Config(app, http=Connection.limited(20), ws="none", log_level="warning")
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join(60)


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_calls(address, workplace):
    (block,) = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    lines = block.splitlines()
    called = set()
    for line in lines:
        command = line.replace("http://127.0.0.1:8000", address).replace("curl", "curl -f", 1)
        done = subprocess.run(
            ["bash", "-c", command], cwd=workplace, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, line + done.stderr
        path = re.search(r"8000(/[\w/.]*)", line)[1]
        called.add(path)
        if path == "/search":
            hits = json.loads(done.stdout)["results"][0]["hits"]
            assert hits and "record" in hits[0]
    assert (workplace / "k3.png").read_bytes().startswith(b"\x89PNG")
    told = set(re.findall(r"^\| `(?:GET|POST) (\S+)` \|", PAGE, re.MULTILINE))
    assert called == told  # each call has its example


def test_the_limits():
    said = limits.Limits()
    for figure in (
        f"| {said.body // 2**20} MiB |", f"| {said.seconds:g} s |", f"| {said.waiting} |",
        f"| {limits.MOST_QUERIES} |", f"{limits.MOST_HITS:,}; {limits.MOST_HITS_TOGETHER:,}",
        f"{said.pixels // 10**6} million", f"{LARGEST_HEAD // 2**10} KiB",
        f"{limits.LONGEST_TEXT:,}; {limits.LONGEST_FILTER:,}", f"one beyond {said.requests:,} at",
        f"up to {said.batch} queries", f"{said.bodies // 2**20} MiB",
    ):  # fmt: skip
        assert figure in PAGE, figure
