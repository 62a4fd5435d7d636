"""Near-duplicates of a table: shows the groups, and writes the table with one record of each.

    python examples/duplicates.py RUN TABLE COLUMN CLEAN.csv [--id ID] [--threshold 0.9]

``msiam dedupe`` does the same from the command line, for tables of any length.
"""

import argparse
import csv
from pathlib import Path

import numpy as np

import msiam
from msiam.errors import MsiamError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", help="the run's folder")
    parser.add_argument("table")
    parser.add_argument("column", help="the column of the table to compare")
    parser.add_argument("clean", help="where the table goes, without duplicates")
    parser.add_argument("--id", help="the column with the ids [row numbers]")
    parser.add_argument("--threshold", type=float, help="the lowest similarity [the run's]")
    arguments = parser.parse_args()

    run = msiam.load(arguments.run)
    threshold = arguments.threshold
    if threshold is None and len(run.model.towers) > 1:
        raise SystemExit(f"{arguments.run}: its threshold is for two towers; give --threshold")
    if threshold is None:
        threshold = run.calibration.threshold
    gallery = msiam.Gallery.build(
        run.model, arguments.table, arguments.column, "duplicates-gallery", arguments.id
    )
    found = msiam.find_duplicates(gallery, threshold)
    for group in found.groups():
        print(f"{len(group)} are the same:")
        for id, record in gallery.records(group):
            print(f"  {id}  {str(record[arguments.column])[:100]}")

    kept = np.setdiff1d(np.arange(len(gallery)), found.removable)
    with Path(arguments.clean).open("w", newline="", encoding="utf-8") as file:
        for number, (id, record) in enumerate(gallery.records(kept)):
            row = {arguments.id or "row": id, **record}
            if number == 0:
                writer = csv.DictWriter(file, row)
                writer.writeheader()
            writer.writerow(row)
    print(
        f"{len(found.pairs)} pairs from {threshold:.3f} on; {len(kept)} of {len(gallery)} are kept"
    )


if __name__ == "__main__":
    try:
        main()
    except MsiamError as error:  # its message says what would be right
        raise SystemExit(str(error)) from None
