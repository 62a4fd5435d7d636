"""What a filtered search finds beside FAISS's own filters, and whether msiam tune keeps its word.

    python benchmarks/gallery_recall.py [--count 20000]

For each kind of index: of the ten nearest among a share of the records, how many are found, by
FAISS told to search among them alone, and by the gallery; and the time of a query, of 100 at once.
Then each kind is tuned to a recall, and measured on 5,000 queries that it has not seen. Exits with
1 where a filtered search of a gallery misses anything, or a promise is missed by more than a point.
Writes the tables of docs/search.md where no other number is asked for.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import datasets
import faiss
import numpy as np
from gallery_vectors import Given, clustered
from turns import write_table

from msiam.gallery.gallery import Gallery
from msiam.gallery.tuning import Wanted, best, measured

DIM, K = 64, 10
DRAWN = DIM, 2000, 0.8  # the vectors' width, centres and spread
FACTORIES = (
    "Flat", "HNSW32", "IVF1024,Flat", "IVF1024,PQ32x4fs,RFlat", "IVF1024,RaBitQfs,RFlat",
)  # fmt: skip
SHARES = (1, 10, 50)  # percent
QUERIES, FRESH = 100, 5000
RECALLS = (0.9, 0.95, 0.99)
POINT = 0.01
COUNT = 20_000
DOCS = Path(__file__).parent.parent / "docs/search.md"
FILTERS, PROMISES = (
    (f"<!-- bench-gallery {name} -->", f"<!-- end of {name} -->")
    for name in ("filters", "promises")
)


def recall(scores: np.ndarray, truth: np.ndarray) -> float:
    """How many of the k nearest were found: scores of (q, k) against the k-th true one, (q,)."""
    return float((scores >= truth[:, None] - 2e-6).mean())


def bare(index: Any, queries: np.ndarray, mask: np.ndarray) -> np.ndarray | None:
    """The positions that FAISS finds when it is told to search among some; None: it refuses."""
    among = faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))
    if isinstance(faiss.downcast_index(index), faiss.IndexHNSW):
        told = faiss.SearchParametersHNSW(sel=among, efSearch=64)
    elif isinstance(faiss.downcast_index(index), faiss.IndexIVF):
        told = faiss.SearchParametersIVF(sel=among, nprobe=16)
    else:
        told = faiss.SearchParameters(sel=among)
    try:
        return index.search(queries, K, params=told)[1]
    except RuntimeError:
        return None


def filtered(gallery: Gallery, vectors: np.ndarray, queries: np.ndarray) -> tuple[str, list[str]]:
    """A line of the table, and what is missed."""
    missed = []
    place = next(gallery.folder.glob("index-*"))
    index = faiss.read_index(str(place))
    cells = []
    for share in SHARES:
        mask = np.arange(len(vectors)) % 100 < share
        among = np.where(mask, queries @ vectors.T, -np.inf)
        truth = -np.sort(-among, axis=1)[:, K - 1]
        found = bare(index, queries, mask)
        if found is None:
            theirs = "refused"
        else:
            scores = np.take_along_axis(among, found, 1)
            theirs = f"{recall(np.where(found >= 0, scores, -np.inf), truth):.3f}"
        where = f"part < {share}"
        gallery.search_vectors(queries[:1], K, where=where)  # which records pass is then known
        begun = time.perf_counter()
        hits = gallery.search_vectors(queries, K, where=where)
        spent = (time.perf_counter() - begun) / len(queries)
        scores = np.array([[hit.score for hit in of] for of in hits])
        ours = recall(scores, truth)
        cells.append(f"{theirs} / {ours:.3f}, {1e3 * spent:.2f} ms")
        if ours < 1:
            missed.append(f"{gallery.manifest.options['factory']} among {share} %: {ours:.4f}")
    return f"| {gallery.manifest.options['factory']} | {' | '.join(cells)} |\n", missed


def promised(gallery: Gallery, queries: np.ndarray) -> tuple[str, list[str]]:
    """The lines of a table, and what is missed."""
    lines, missed = "", []
    truth = gallery.nearest(queries, K, exact=True)[0][:, -1]
    for wanted in map(Wanted, RECALLS):
        found = list(measured(gallery, wanted, seed=1))
        cells = []
        for factory in dict.fromkeys(one.options.factory for one in found):
            chosen = best([one for one in found if one.options.factory == factory], wanted)
            if chosen is None:
                cells.append("not reached")
                continue
            gallery.reindex(chosen.options)
            fresh = recall(gallery.nearest(queries, K)[0], truth)
            cells.append(f"{chosen.recall:.3f} / {fresh:.3f}")
            if fresh < wanted.recall - POINT:
                missed.append(f"{factory} tuned to {wanted.recall}: {fresh:.4f} on fresh queries")
        lines += f"| {wanted.recall} | {' | '.join(cells)} |\n"
    return lines, missed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=COUNT)
    count = parser.parse_args().count
    vectors, queries = clustered(count, 1, *DRAWN), clustered(QUERIES, 2, *DRAWN)
    rows = np.arange(count)
    table = datasets.Dataset.from_dict({"row": rows, "part": rows % 100})
    shares = " | ".join(f"among {share} %" for share in SHARES)
    filters = f"| FAISS's filter / a gallery's | {shares} |\n" + "|---" * (1 + len(SHARES)) + "|\n"
    promises = "| tuned to | Flat | HNSW | IVF,Flat | IVF,PQ | IVF,RaBitQ |\n" + "|---" * 6 + "|\n"
    missed = []
    with tempfile.TemporaryDirectory() as folder:
        gallery = Gallery.build(Given(vectors), table, "row", Path(folder) / "gallery")
        for factory in FACTORIES:
            gallery.reindex({"factory": factory})
            line, less = filtered(gallery, vectors, queries)
            filters, missed = filters + line, missed + less
        print(f"{count:,} × {DIM}; recall@{K}, and the time of a query\n\n{filters}", flush=True)
        lines, less = promised(gallery, clustered(FRESH, 3, *DRAWN))
    promises, missed = promises + lines, missed + less
    print(f"recall@{K}, measured by msiam tune / of {FRESH:,} fresh queries\n\n{promises}", end="")
    if count == COUNT:
        write_table(DOCS, FILTERS, filters)
        write_table(DOCS, PROMISES, promises)
    if missed:
        raise SystemExit("missed: " + "; ".join(missed))


if __name__ == "__main__":
    main()
