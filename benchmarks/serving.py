"""``msiam serve`` under load: 200 clients for a minute, beside one request at a time.

    python benchmarks/serving.py [--seconds 60] [--clients 200] [--records 20000] [--tiny]

A client asks for ten neighbours of a question, waits for the answer, and asks again; one that is
answered 503 waits as long as it is told. Server and clients share the machine's processors, so that
what the clients cost is in the figures.

Exits with 1 where there is an error other than 503, where all clients together are answered less
than 5 × as fast as one that waits for each answer, or where the server's memory grows by more than
a tenth after the first quarter. Writes the table of docs/serving.md where nothing else was asked
for. --tiny: few clients for a moment, to see that all of it runs; there only errors are judged.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
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
from turns import write_table

import msiam

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs/serving.md"
MARKS = "<!-- bench-serving -->", "<!-- end -->"
RATIO = 5.0
GROWTH = 1.1
MOST = 1_000_000  # requests of a load, however long it goes on
COLOURS = ("red", "green", "blue", "black", "white", "grey", "pink", "brown")
THINGS = ("cat", "car", "dog", "house", "boat", "tree", "river", "stone", "bird", "road", "lamp")
PLACES = ("garden", "street", "kitchen", "harbour", "forest", "office", "station", "market")


@dataclass
class Load:
    """What came of some clients' requests."""

    seconds: float = 0.0
    times: list[float] = field(default_factory=list)  # of those answered 200
    statuses: collections.Counter[int] = field(default_factory=collections.Counter)
    broken: collections.Counter[str] = field(default_factory=collections.Counter)
    memory: list[int] = field(default_factory=list)  # kB that the server holds, each second

    @property
    def errors(self) -> dict[int | str, int]:
        """All but answers and 503, with how often each came."""
        others = {status: n for status, n in self.statuses.items() if status not in (200, 503)}
        return {**others, **self.broken}

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
    """Ask, wait for the answer, ask again."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        chance = random.Random(seed)
        while time.perf_counter() < until and load.statuses.total() < MOST:
            await ask(reader, writer, chance, load)
        writer.close()
    except (OSError, EOFError) as error:
        load.broken[type(error).__name__] += 1


async def ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, chance: random.Random, load: Load
) -> None:
    """One request, by hand: an HTTP library would take more of the processors than the server."""
    body = f'{{"queries": [{{"text": "{question(chance)}"}}], "k": 10}}'
    head = f"POST /search HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n"
    began = time.perf_counter()
    writer.write(f"{head}Content-Type: application/json\r\n\r\n{body}".encode())
    answer = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", answer, re.IGNORECASE)
    assert length is not None
    found = await reader.readexactly(int(length[1]))
    status = int(answer[9:12])
    load.statuses[status] += 1
    if status == 200:
        load.times.append(time.perf_counter() - began)
        assert found.count(b'"score"') == 10
    elif status == 503:
        after = re.search(rb"retry-after: (\d+)", answer, re.IGNORECASE)
        assert after is not None
        await asyncio.sleep(int(after[1]))


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


def row(name: str, load: Load) -> str:
    held = f"{load.memory[0] / 1024:.0f} to {load.memory[-1] / 1024:.0f} MiB"
    return (
        f"| {name} | {load.rate:.0f} | {load.percentile(50):.0f} ms | {load.percentile(99):.0f} ms "
        f"| {load.statuses[503]} | {sum(load.errors.values())} | {held} |\n"
    )


def missed(alone: Load, load: Load) -> list[str]:
    """What is not as it must be."""
    wrong = []
    for name, found in (("one client", alone), ("all clients", load)):
        if found.errors or not found.times:
            wrong.append(f"{name}: {len(found.times)} answers, and errors {found.errors}")
    if load.rate < RATIO * alone.rate:
        ratio = load.rate / alone.rate
        wrong.append(f"throughput: {ratio:.2f} × one request at a time, must be {RATIO:g}")
    if load.growth > GROWTH:
        wrong.append(f"memory: {load.growth:.2f} × that of the first quarter, at most {GROWTH:g}")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--tiny", action="store_true", help="8 clients, a second, 300 records")
    asked = parser.parse_args()
    if asked.tiny:
        asked.seconds, asked.clients, asked.records = 1.0, 8, 300
    with tempfile.TemporaryDirectory() as folder, served(build(Path(folder), asked.records)) as at:
        asyncio.run(clients(*at, asked.clients, asked.seconds / 20))  # to warm up
        alone = asyncio.run(clients(*at, 1, asked.seconds / 6))
        load = asyncio.run(clients(*at, asked.clients, asked.seconds))
    table = (
        "| clients | answers a second | median | 99th percentile | 503 | errors | memory |\n"
        "|---|---|---|---|---|---|---|\n" + row("1", alone) + row(str(asked.clients), load)
    )
    print(table + f"\n{load.rate / alone.rate:.1f} × one request at a time")
    if asked.tiny:
        return int(bool(alone.errors or load.errors) or not (alone.times and load.times))
    if vars(asked) == vars(parser.parse_args([])):
        write_table(DOCS, MARKS, table)
    wrong = missed(alone, load)
    for line in wrong:
        print(f"missed: {line}")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
