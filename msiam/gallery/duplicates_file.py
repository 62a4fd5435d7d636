"""What is a near-duplicate of what, as two CSV files: the pairs, and what may go."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from msiam.errors import GalleryError
from msiam.gallery.building import Progress
from msiam.gallery.duplicates import Groups, near_pairs
from msiam.gallery.gallery import Gallery
from msiam.paths import check_place, replacing

#: Records looked up at a time.
ROWS = 4096


@dataclass(frozen=True)
class Written:
    """What ``write_duplicates`` wrote.

    Attributes:
        records: how many were compared.
        threshold: the lowest cosine.
        rejected: row and reason of what had been set aside when the gallery was built just now.
        pairs: how many pairs of near-duplicates there are.
        groups: how many groups they make.
        removable: how many records may go, so that one of each group is left.
        groups_file: where these are.
    """

    records: int
    threshold: float
    rejected: list[tuple[int, str]]
    pairs: int
    groups: int
    removable: int
    groups_file: Path


def groups_file(out: Path) -> Path:
    """The file beside ``out`` that says which records may go: NAME.groups.csv for NAME.csv."""
    return out.with_suffix(f".groups{out.suffix}")


def check_places(out: Path) -> None:
    """Find out, before long work begins, whether both files can be written. Makes their folder.

    Raises:
        GalleryError: ``out`` is no .csv file.
        RunError: one cannot be written.
    """
    if out.suffix != ".csv":
        raise GalleryError(f"{out}: duplicates are written as .csv; found '{out.suffix}'")
    check_place(out)
    check_place(groups_file(out))


def write_duplicates(
    gallery: Gallery, threshold: float, out: Path, progress: Progress | None = None
) -> Written:
    """Write the pairs to ``out``, and the groups beside it; both are replaced when both are whole.

    ``out`` has the columns id, duplicate and score, the earlier record of a pair first. The groups'
    file has id and kept: a line for each record that may go, and the one of its group that stays,
    which is the earliest. The pairs never are in memory.

    Raises:
        GalleryError: as ``check_places`` and ``near_pairs``.
        RunError: a file cannot be written, or the disk is full. Both are then as they were.
    """
    check_places(out)
    groups, count = Groups(len(gallery)), 0
    beside = groups_file(out)
    with replacing(out) as pairs_draft, replacing(beside) as groups_draft:
        with pairs_draft.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "duplicate", "score"])
            for pairs in near_pairs(gallery, threshold, progress):
                groups.join(pairs)
                ids = _ids(gallery, np.column_stack([pairs.left, pairs.right]))
                scores = (f"{score:.6f}" for score in pairs.scores)
                writer.writerows([*two, score] for two, score in zip(ids, scores, strict=True))
                count += len(pairs)
        kept = groups.roots()
        removable = np.flatnonzero(kept != np.arange(len(kept)))
        with groups_draft.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "kept"])
            writer.writerows(_ids(gallery, np.column_stack([removable, kept[removable]])))
    return Written(
        len(gallery), threshold, gallery.rejected, count,
        len(np.unique(kept[removable])), len(removable), beside,
    )  # fmt: skip


def _ids(gallery: Gallery, positions: np.ndarray) -> Iterator[tuple[str, str]]:
    """The ids of (p, 2) positions."""
    for start in range(0, len(positions), ROWS):
        some = positions[start : start + ROWS]
        ids = [id for id, _ in gallery.records(some.ravel())]
        yield from zip(ids[::2], ids[1::2], strict=True)
