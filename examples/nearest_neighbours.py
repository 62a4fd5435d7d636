"""Nearest-neighbour search over a table, with a run that msiam train made.

    python examples/nearest_neighbours.py RUN TABLE COLUMN QUERY [QUERY ...]

A query is a text or a picture's file. The gallery is built anew each time and stays in its folder:
``msiam.Gallery.open(folder, model)`` opens it again.
"""

import argparse

import msiam
from msiam.errors import MsiamError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", help="a run's folder")
    parser.add_argument("table", help="the table to search in")
    parser.add_argument("column", help="the column of the table to search in")
    parser.add_argument("queries", nargs="+")
    parser.add_argument("--gallery", default="gallery", help="where the gallery goes [gallery]")
    parser.add_argument("-k", type=int, default=5)
    arguments = parser.parse_args()

    run = msiam.load(arguments.run)
    gallery = msiam.Gallery.build(
        run.model, arguments.table, arguments.column, arguments.gallery, run=arguments.run
    )
    results = gallery.search(arguments.queries, k=arguments.k)
    for query, hits in zip(arguments.queries, results, strict=True):
        print(query)
        for hit in hits:
            print(f"  {hit.score:.3f}  {hit.id}  {str(hit.record)[:100]}")


if __name__ == "__main__":
    try:
        main()
    except MsiamError as error:  # its message says what would be right
        raise SystemExit(str(error)) from None
