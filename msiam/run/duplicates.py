"""The near-duplicates of a table, which is embedded for it, or of a gallery that is there."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console

from msiam.data.sources import Source
from msiam.data.streams import Stream, open_stream, place_of
from msiam.errors import RunError
from msiam.gallery.duplicates import check_threshold
from msiam.gallery.duplicates_file import Written, check_places, groups_file, write_duplicates
from msiam.gallery.gallery import Gallery
from msiam.paths import check_apart
from msiam.progress import QUIET, items_bar
from msiam.run.run import Run, load
from msiam.towers.inference import Precision

#: Up to so many records all are compared; of more, those of the nearest lists of an inverted file.
COMPARED = 1 << 18
PROBED = 32


def dedupe_table(
    run: Run,
    table: Source | Stream,
    column: str,
    out: Path,
    id: str | None = None,
    *,
    threshold: float | None = None,
    precision: Precision = "fp32",
    console: Console = QUIET,
) -> Written:
    """Write the near-duplicates of a table, of any length: see ``write_duplicates``.

    Its vectors are a gallery in a folder beside ``out``, for as long as it takes.

    Args:
        column, id, precision: as for ``Gallery.build``.
        threshold: the lowest cosine of near-duplicates; None: the run's threshold.

    Raises:
        RunError: as ``threshold_within`` and ``write_duplicates``; a file to write is the table.
        GalleryError, DataError: as ``Gallery.build`` and ``near_pairs``.
    """
    lowest = threshold_within(run) if threshold is None else threshold
    check_threshold(lowest)
    stream = open_stream(table)
    check_apart(place_of(stream), out, groups_file(out))
    check_places(out)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as folder:
        with items_bar(console, "embedding", len(stream)) as progress:
            gallery = Gallery.build(
                run.model, stream, column, folder, id,
                options=index_for(len(stream)), progress=progress, precision=precision,
            )  # fmt: skip
        return _write(gallery, lowest, out, console)


def dedupe_gallery(
    gallery: Gallery,
    out: Path,
    run: str | Path | None = None,
    *,
    threshold: float | None = None,
    console: Console = QUIET,
) -> Written:
    """Write the near-duplicates of a gallery: see ``write_duplicates``.

    Args:
        run: where the threshold is from; None: the run that made the gallery.
        threshold: the lowest cosine of near-duplicates; None: the run's threshold.

    Raises:
        RunError: as ``threshold_within`` and ``write_duplicates``; that run is not there any more.
        GalleryError: another model made the gallery; as ``near_pairs``.
    """
    if threshold is None:
        place = run or gallery.run
        if place is None or not Path(place).is_dir():
            where = f"its run is not at {place}" if place else "was built from a model alone"
            raise RunError(f"{gallery.folder}: {where}; name it with --run, or give --threshold")
        opened = load(place)
        gallery.attach(opened.model)
        threshold = threshold_within(opened)
    check_threshold(threshold)
    check_places(out)
    return _write(gallery, threshold, out, console)


def threshold_within(run: Run) -> float:
    """From which similarity on two items of one column are the same.

    Raises:
        RunError: a model alone has no threshold, and that of two towers, as of captions and
            pictures, says nothing of two pictures.
    """
    if run.calibration is None:
        raise RunError(f"{run.folder.path}: a model alone has no threshold; give --threshold")
    towers = set(run.model.columns.values())
    if len(towers) > 1:
        raise RunError(
            f"{run.folder.path}: its threshold is for {' ↔ '.join(run.model.columns)}, and says "
            "nothing of two items of one column; give --threshold"
        )
    return run.calibration.threshold


def index_for(count: int) -> dict[str, Any]:
    """The options of an index for as many records: exact, or in lists when that takes too long."""
    if count <= COMPARED:
        return {"factory": "Flat"}
    lists = 1 << round(math.log2(4 * math.sqrt(count)))
    return {"factory": f"IVF{lists},Flat", "nprobe": PROBED}


def _write(gallery: Gallery, threshold: float, out: Path, console: Console) -> Written:
    with items_bar(console, "comparing", len(gallery)) as progress:
        return write_duplicates(gallery, threshold, out, progress)
