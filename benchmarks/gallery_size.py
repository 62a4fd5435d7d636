"""A gallery of ten million: how long it builds, opens and searches, and what it takes.

    python benchmarks/gallery_size.py [--count 10000000] [--factory IVF2048,SQ8] [--folder …]

The records are clustered at random, and come as they would from a model: a window at a time. What
is searched was opened by another process than the one that built. Writes the table of
docs/storage.md where nothing else was asked for. Exits with 1 where opening takes 2 s or more, or
where building holds more in memory than the vectors and 1 GB for the libraries.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from turns import write_table as write_page

DOCS = Path(__file__).parent.parent / "docs/storage.md"
MARKS = "<!-- bench-gallery-size -->", "<!-- end of size -->"
COUNT, FACTORY, NPROBE = 10_000_000, "IVF2048,SQ8", 32
DIM, CLUSTERS, K = 128, 20_000, 10
QUERIES, JUDGED = 1000, 100
SLOWEST_OPENING = 2.0


class Clusters:
    """Stands for a model: a row's number to its vector, always the same one."""

    def __init__(self) -> None:
        self.columns = {"row": "row"}
        self._centres = np.random.default_rng(0).normal(size=(CLUSTERS, DIM)).astype(np.float32)

    def fingerprint(self) -> str:
        return "clusters"

    def embed(
        self, column: str, items: list[int], root: Any = None, progress: Any = None, how: Any = None
    ) -> tuple[np.ndarray, list[tuple[int, str]]]:
        """Vectors of a window, drawn by the number of its first row: (n, DIM) of length 1."""
        if progress is not None:
            progress(len(items))
        return self.draw(items[0], len(items)), []

    def draw(self, seed: int, count: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        vectors = rng.standard_normal((count, DIM), np.float32)
        vectors *= 0.7
        vectors += self._centres[rng.integers(0, CLUSTERS, count)]
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def write_table(path: Path, count: int) -> None:
    """A table of records: a number, an id, a price, a colour."""
    colours = np.array(["red", "green", "blue", "white"])
    with pq.ParquetWriter(path, _rows(0, 1, colours).schema) as file:
        for start in range(0, count, 1 << 17):
            file.write_batch(_rows(start, min(count, start + (1 << 17)), colours))


def _rows(start: int, end: int, colours: np.ndarray) -> pa.RecordBatch:
    rows = np.arange(start, end)
    columns = {
        "row": rows,
        "sku": [f"sku-{row}" for row in range(start, end)],
        "price": rows % 1000,
        "colour": colours[rows % 4],
    }
    return pa.record_batch([pa.array(values) for values in columns.values()], list(columns))


def build(folder: Path, count: int, options: dict[str, Any]) -> dict[str, float]:
    from msiam.gallery.gallery import Gallery

    write_table(folder / "t.parquet", count)
    begun = time.perf_counter()
    gallery = Gallery.build(
        Clusters(), folder / "t.parquet", "row", folder / "gallery", "sku", options=options
    )
    return {
        "build": time.perf_counter() - begun,
        "build memory": peak(),
        "disk": sum(stored.size for stored in gallery.manifest.files) / 1e9,
    }


def search(folder: Path) -> dict[str, float]:
    from msiam.gallery.gallery import Gallery

    begun = time.perf_counter()
    gallery = Gallery.open(folder / "gallery")
    found = {"open": time.perf_counter() - begun}
    queries = Clusters().draw(1 << 40, QUERIES)
    gallery.search_vectors(queries[:1], K)  # the first one reads what the others share
    found["single"] = 1e3 * np.median([timed(gallery.nearest, q[None], K) for q in queries[:100]])
    found["batch"] = 1e3 * min(timed(gallery.nearest, queries, K) for _ in range(3)) / QUERIES
    found["search memory"] = peak()
    _, nearest = gallery.nearest(queries[:JUDGED], K)
    begun = time.perf_counter()
    _, exact = gallery.nearest(queries[:JUDGED], K, exact=True)
    found["exact"] = 1e3 * (time.perf_counter() - begun) / JUDGED
    shared = [len(np.intersect1d(a, b)) for a, b in zip(nearest, exact, strict=True)]
    found["recall"] = np.mean(shared) / K
    where = "price < 10 and colour = 'red'"
    found["filter first"] = timed(gallery.search_vectors, queries[:1], K, where=where)
    found["filter"] = 1e3 * timed(gallery.search_vectors, queries[1:2], K, where=where)
    return found


def timed(action: Callable[..., Any], *arguments: Any, **options: Any) -> float:
    begun = time.perf_counter()
    action(*arguments, **options)
    return time.perf_counter() - begun


def peak() -> float:
    """The most that this process has held, in GB. (Mapped files count while they are held.)"""
    # Not getrusage, whose figure begins with that of the process that started this one.
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--factory", default=FACTORY)
    parser.add_argument("--nprobe", type=int, default=NPROBE)
    parser.add_argument("--folder", type=Path, help="on a disk with room; emptied afterwards")
    parser.add_argument("--search", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.search:
        print(json.dumps({key: float(value) for key, value in search(given.search).items()}))
        return
    options = {"factory": given.factory, "nprobe": given.nprobe}
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        before, tempfile.tempdir = tempfile.tempdir, name  # where FAISS's lists go meanwhile
        try:
            found = build(Path(name), given.count, options)
        finally:
            tempfile.tempdir = before
        call = [sys.executable, __file__, "--search", name]
        done = subprocess.run(call, stdout=subprocess.PIPE, text=True, check=True)
        found |= json.loads(done.stdout)
    table = (
        f"| {given.count:,} × {DIM}, {given.factory}, nprobe {given.nprobe} | |\n|---|---|\n"
        f"| built in | {found['build']:,.0f} s, with {found['build memory']:.1f} GB of memory |\n"
        f"| on disk | {found['disk']:.1f} GB |\n"
        f"| opened in | {found['open']:.2f} s |\n"
        f"| one query | {found['single']:.1f} ms |\n"
        f"| one of {QUERIES:,} together | {found['batch']:.2f} ms |\n"
        f"| recall@{K} | {found['recall']:.3f} |\n"
        f"| memory while searching | {found['search memory']:.1f} GB |\n"
        f"| exact, one of {JUDGED} together | {found['exact']:.0f} ms |\n"
        f"| filtered to 0.25 %, exact | {found['filter']:.1f} ms |\n"
        f"| the first with that filter | {found['filter first']:.1f} s |\n"
    )
    print(table, end="")
    if (given.count, given.factory, given.nprobe) == (COUNT, FACTORY, NPROBE):
        write_page(DOCS, MARKS, table)
    if found["open"] >= SLOWEST_OPENING:
        raise SystemExit(f"opened in {found['open']:.2f} s, and {SLOWEST_OPENING} s is the goal")
    if found["build memory"] > 1 + given.count * DIM * 4e-9:
        raise SystemExit(f"built with {found['build memory']:.1f} GB, more than the vectors take")


if __name__ == "__main__":
    main()
