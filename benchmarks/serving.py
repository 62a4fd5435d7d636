"""``msiam serve`` under load: 200 clients for a minute, beside one request at a time.

    python benchmarks/serving.py [--seconds 60] [--clients 200] [--records 20000] [--gallery FOLDER]

Exits with 1 where there is an error other than 503, where all clients together are answered less
than 5 × as fast as one that waits for each answer, or where memory grows by more than a tenth after
the first quarter. Server and clients share the machine's processors.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import msiam

RATIO = 5.0
GROWTH = 1.1
COLOURS = ("red", "green", "blue", "black", "white", "grey", "pink", "brown")
THINGS = ("cat", "car", "dog", "house", "boat", "tree", "river", "stone", "bird", "road", "lamp")
PLACES = ("garden", "street", "kitchen", "harbour", "forest", "office", "station", "market")


@dataclass
class Load:
    """What came of some clients' requests."""

    seconds: float = 0.0
    times: list[float] = field(default_factory=list)  # of those answered 200
    statuses: collections.Counter[int] = field(default_factory=collections.Counter)
    memory: list[int] = field(default_factory=list)  # kB that the server holds, each second

    @property
    def rate(self) -> float:
        return len(self.times) / self.seconds

    def percentile(self, share: float) -> float:
        """In milliseconds."""
        return float(np.percentile(self.times, share)) * 1e3 if self.times else float("nan")

    @property
    def growth(self) -> float:
        """What the server holds at its end, over what it held after the first quarter."""
        if len(self.memory) < 8:
            return 1.0
        return self.memory[-1] / self.memory[len(self.memory) // 4]


def question(random: random.Random) -> str:
    """One of some 8,000 questions."""
    first, second = random.choice(COLOURS), random.choice(COLOURS)
    thing, place = random.choice(THINGS), random.choice(PLACES)
    return f"where is the {first} {thing} in the {second} {place}"


def build(folder: Path, records: int) -> Path:
    """A gallery of a small run: an LSTM, 256 wide, trained for two steps."""
    chance = random.Random(0)
    rows = [
        {"question": question(chance), "same": f"tell me: {question(chance)}", "n": n}
        for n in range(records)
    ]
    model = msiam.Model(
        {"text": {"encoder": "lstm", "dim": 256}}, {"question": "text", "same": "text"}
    )
    run = msiam.train(model, rows[:2000], folder=folder / "run", max_steps=2)
    gallery = folder / "gallery"
    msiam.Gallery.build(run.model, rows, "question", gallery, run=folder / "run")
    return gallery


@contextlib.contextmanager
def served(gallery: Path) -> Iterator[tuple[int, int]]:
    """The server's process and port."""
    command = [sys.executable, "-m", "msiam", "serve", str(gallery), "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        found = re.search(r":(\d+) ", line)
        if found is None:
            raise SystemExit(f"the server did not start: {line}{process.stderr.read()}")
        yield process.pid, int(found[1])
    finally:
        process.terminate()
        process.wait(30)


async def client(port: int, until: float, load: Load, seed: int) -> None:
    """Ask, wait for the answer, ask again. Plain sockets: a client costs the server's machine."""
    chance = random.Random(seed)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.perf_counter() < until:
        body = json.dumps({"queries": [{"text": question(chance)}], "k": 10}).encode()
        head = f"POST /search HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {len(body)}\r\n"
        began = time.perf_counter()
        writer.write(head.encode() + b"Content-Type: application/json\r\n\r\n" + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        status = int(answer[9:12])
        length = re.search(rb"content-length: (\d+)", answer, re.IGNORECASE)
        assert length is not None
        await reader.readexactly(int(length[1]))
        load.statuses[status] += 1
        if status == 200:
            load.times.append(time.perf_counter() - began)
        elif status == 503:
            await asyncio.sleep(1)  # as it was told
    writer.close()


async def clients(pid: int, port: int, count: int, seconds: float) -> Load:
    load = Load()

    async def watch() -> None:
        while True:
            status = Path(f"/proc/{pid}/status").read_text()
            load.memory.append(int(re.findall(r"VmRSS:\s+(\d+)", status)[0]))
            await asyncio.sleep(1)

    watching = asyncio.create_task(watch())
    began = time.perf_counter()
    await asyncio.gather(*(client(port, began + seconds, load, seed) for seed in range(count)))
    load.seconds = time.perf_counter() - began
    watching.cancel()
    return load


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--gallery", type=Path, help="one that is there already")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        gallery = asked.gallery or build(Path(folder), asked.records)
        with served(gallery) as (pid, port):
            asyncio.run(clients(pid, port, asked.clients, 2))  # to warm up
            alone = asyncio.run(clients(pid, port, 1, asked.seconds / 6))
            load = asyncio.run(clients(pid, port, asked.clients, asked.seconds))
    for name, found in (("1 client", alone), (f"{asked.clients} clients", load)):
        print(
            f"{name:<12}{found.rate:>8.0f} answers/s   p50 {found.percentile(50):.1f} ms   "
            f"p99 {found.percentile(99):.1f} ms   {dict(found.statuses)}"
        )
    ratio = load.rate / alone.rate
    errors = sum(n for status, n in load.statuses.items() if status not in (200, 503))
    held = f"{load.memory[0] / 1024:.0f} to {load.memory[-1] / 1024:.0f} MiB"
    print(f"{ratio:.1f} × (at least {RATIO:g}); memory {held}; {errors} errors other than 503")
    return int(ratio < RATIO or errors > 0 or load.growth > GROWTH)


if __name__ == "__main__":
    sys.exit(main())
