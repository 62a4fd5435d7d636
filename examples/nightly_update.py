"""A nightly update: makes a gallery's records those of a CSV file that is exported anew each night.

    python examples/nightly_update.py GALLERY TABLE [--id id]

Rows that are new or have changed are embedded, and take the place of the old ones; records that
the table has no more are removed. All others stay as they are. Whoever searches meanwhile sees each
step as a whole, and nobody has to be stopped.
"""

import argparse

import msiam
from msiam.errors import MsiamError

SEGMENTS = 8  # so many changes are searched one after the other; then they become one


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("gallery", help="a gallery's folder, which msiam index made")
    parser.add_argument("table", help="all records as they are now")
    parser.add_argument("--id", default="id", help="the column with the ids [id]")
    arguments = parser.parse_args()

    gallery = msiam.Gallery.open(arguments.gallery)
    gallery.attach(msiam.load(gallery.run).model)
    had = {}
    for batch in gallery.batches():
        had |= zip(batch["id"].to_pylist(), batch["record"].to_pylist(), strict=True)

    table = msiam.open_table(arguments.table)
    has = [str(id) for id in table.values(arguments.id)]
    changed = [
        number
        for number, (id, row) in enumerate(zip(has, table.dataset, strict=True))
        if had.get(id) != {name: cell for name, cell in row.items() if name != arguments.id}
    ]
    gone = had.keys() - set(has)

    if changed:
        gallery.upsert(table.select(changed), arguments.id, wait=True)
    if gone:
        gallery.remove(list(gone), wait=True)
    if len(gallery.manifest.segments) > SEGMENTS:
        gallery.compact(wait=True)
    print(f"{len(changed)} new or changed, {len(gone)} removed; {len(gallery)} records")
    for row, reason in gallery.rejected:
        print(f"{has[changed[row]]} stays as it was: {reason}")


if __name__ == "__main__":
    try:
        main()
    except MsiamError as error:  # its message says what would be right
        raise SystemExit(str(error)) from None
