"""Index backends side by side: how long each builds and searches, beside FAISS's exact index.

    python benchmarks/engines.py pgvector://db/bench lancedb:///tmp/bench 'milvus:///tmp/bench.db'

Each is a backend as msiam index --backend takes it. What they build, they drop. Prints a table in
Markdown, of ratios to FAISS: another machine has other times and about the same ratios.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from msiam.gallery.backend_url import named_backend
from msiam.registry.options import parse_options
from msiam.registry.registry import registry

K = 10
SINGLE, BATCH, TIMES = 100, 1000, 3


def clustered(count: int, dim: int, seed: int) -> np.ndarray:
    """Unit vectors round 200 centres, (count, dim): queries and gallery have the same centres."""
    centres = np.random.default_rng(0).normal(size=(200, dim))
    rng = np.random.default_rng(seed)
    vectors = centres[rng.integers(0, 200, count)] + 0.7 * rng.normal(size=(count, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def measure(text: str, vectors: np.ndarray, queries: np.ndarray) -> dict[str, float]:
    """Seconds of a build, of one query and of one in a batch; recall@10 against brute force."""
    name, given = named_backend(text, {})
    kind = registry().find("backend", name).load()
    options = parse_options(kind, given, text)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index"
        start = time.perf_counter()
        chunks = np.array_split(vectors, -(-len(vectors) // 2048))
        kind.build(iter(chunks), vectors.shape[1], options).save(path)
        build = time.perf_counter() - start
        try:
            index = kind.open(path, options)
            _, found = index.search(queries, K)
            single, batch = [], []
            for query in queries[:SINGLE, None]:
                start = time.perf_counter()
                index.search(query, K)
                single.append(time.perf_counter() - start)
            for _ in range(TIMES):
                start = time.perf_counter()
                index.search(queries, K)
                batch.append(time.perf_counter() - start)
        finally:
            kind.discard(path)
    best = np.argsort(-(queries @ vectors.T), axis=1)[:, :K]
    shared = [len(np.intersect1d(a, b)) for a, b in zip(found, best, strict=True)]
    return {
        "build": build,
        "single": float(np.median(single)),
        "batch": min(batch) / len(queries),
        "recall": sum(shared) / best.size,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("backends", nargs="+", metavar="NAME://…")
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--dim", type=int, default=64)
    arguments = parser.parse_args()
    vectors = clustered(arguments.count, arguments.dim, seed=1)
    queries = clustered(BATCH, arguments.dim, seed=2)
    measure("faiss", vectors, queries)  # the first of all has more to do
    flat = measure("faiss", vectors, queries)
    print(
        f"{arguments.count:,} × {arguments.dim}; FAISS Flat: build {1e3 * flat['build']:.1f} ms, "
        f"one query {1e3 * flat['single']:.2f} ms, in a batch {1e3 * flat['batch']:.3f} ms\n\n"
        "| backend | build | one query | in a batch of 1,000 | recall@10 |\n|---|---|---|---|---|"
    )
    for text in arguments.backends:
        found = measure(text, vectors, queries)
        ratios = " | ".join(f"{found[key] / flat[key]:.3g}" for key in ("build", "single", "batch"))
        print(f"| {text} | {ratios} | {found['recall']:.3f} |", flush=True)


if __name__ == "__main__":
    main()
