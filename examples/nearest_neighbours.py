"""Nearest-neighbour search over a table, with a run that msiam train made.

    python examples/nearest_neighbours.py RUN TABLE COLUMN QUERY [QUERY ...]

The gallery is built the first time and opened afterwards. A query is a text or a picture's file.
"""

import argparse
from pathlib import Path

import msiam


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", help="a run's folder")
    parser.add_argument("table", help="the table to search in")
    parser.add_argument("column", help="the column of the table to search in")
    parser.add_argument("queries", nargs="+")
    parser.add_argument("-k", type=int, default=5)
    arguments = parser.parse_args()

    model = msiam.load(arguments.run).model
    folder = Path(arguments.run) / f"gallery-{arguments.column}"
    if folder.is_dir():
        gallery = msiam.Gallery.open(folder, model)
    else:
        gallery = msiam.Gallery.build(model, arguments.table, arguments.column, folder)

    results = gallery.search(arguments.queries, k=arguments.k)
    for query, hits in zip(arguments.queries, results, strict=True):
        print(query)
        for hit in hits:
            print(f"  {hit.score:.3f}  {hit.id}  {str(hit.record)[:100]}")


if __name__ == "__main__":
    main()
