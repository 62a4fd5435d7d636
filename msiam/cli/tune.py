"""msiam tune: the index that reaches a recall on the gallery's own vectors, by measurement."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from msiam.cli.console import only_column, output, print_json, progress
from msiam.cli.units import bytes_as_text, seconds, seconds_as_text, size
from msiam.errors import GalleryError

if TYPE_CHECKING:
    import numpy as np

    from msiam.gallery.gallery import Gallery
    from msiam.gallery.tuning import Wanted
    from msiam.gallery.tuning_measure import Measured

#: Characters of a line of the table, which stays one wherever it goes.
WIDTH = 140


def tune(
    gallery: Annotated[Path, typer.Argument(help="A gallery's folder.")],
    recall: Annotated[
        float, typer.Option(help="How many of the k nearest must be found, as a share.")
    ] = 0.95,
    k: Annotated[int, typer.Option("-k", help="Of how many nearest.", min=1)] = 10,
    memory: Annotated[
        str | None, typer.Option(metavar="SIZE", help="The most for searching: 2GB [any].")
    ] = None,
    latency: Annotated[
        str | None, typer.Option(metavar="TIME", help="The most for a query alone: 5ms [any].")
    ] = None,
    batch: Annotated[
        bool, typer.Option("--batch", help="Choose what is fastest on many queries at once.")
    ] = False,
    queries: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Queries: a table, or vectors in a .npy file [own vectors]."
        ),
    ] = None,
    column: Annotated[
        str | None,
        typer.Option(help="The table's and the model's column of --queries [the one it has]."),
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="The run, where it is not where the gallery was built.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Says which queries are drawn.")] = 0,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The drawing, .png or .svg [GALLERY/tuning.svg]."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Measure and draw; leave the gallery as it is.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print what was measured as JSON.")] = False,
) -> None:
    """Measure indexes on a gallery's own vectors, and keep the best that does what is asked.

    Nothing is embedded again. Times are those of this machine, as busy as it is. Where another
    process is writing the gallery at the end, it is waited for.
    """
    from msiam.gallery.tuning import Wanted, best, measured
    from msiam.gallery.tuning_plot import check_drawing, draw_frontier
    from msiam.paths import check_place, replacing

    wanted = Wanted(
        recall, k, size(memory, "--memory") if memory else None,
        seconds(latency, "--latency") if latency else None, batch,
    )  # fmt: skip
    place = plot or gallery / "tuning.svg"
    check_drawing(place)
    opened, asked = _opened(gallery, queries, column, run, seed)
    check_place(place)
    found: list[Measured] = []
    for one in measured(opened, wanted, asked, seed, _say):
        found.append(one)
    chosen = best(found, wanted)
    if not found:  # nothing that fits into the memory
        raise _nothing(gallery)
    with replacing(place) as draft:
        draft.write_bytes(draw_frontier(found, chosen, wanted, place.suffix))
    if json:
        print_json(
            {
                "gallery": str(gallery), "queries": _source(opened, queries), "plot": str(place),
                "wanted": dataclasses.asdict(wanted),
                "measured": [_as_json(one) for one in found],
                "chosen": chosen and _as_json(chosen),
            }
        )  # fmt: skip
    else:
        print_measured(found, chosen, wanted)
        output.print(f"queries: {_source(opened, queries)}", soft_wrap=True)
        output.print(f"frontier: {place}", soft_wrap=True)
    if chosen is None:
        raise _nothing(gallery)
    if not dry_run:
        opened.reindex(chosen.options, wait=True)  # or all that was measured would be lost
        if not json:
            output.print(f"{gallery}: searches with {_named(chosen)} from now on", soft_wrap=True)


def _opened(
    folder: Path, queries: str | None, column: str | None, run: Path | None, seed: int
) -> tuple[Gallery, np.ndarray | None]:
    """The gallery, and the queries if there are any; a model only for those of a table."""
    from msiam.gallery.gallery import Gallery
    from msiam.gallery.query_file import read_vectors, table_queries

    if queries is None or queries.lower().endswith(".npy"):
        opened = Gallery.open(folder)
        vectors = None if queries is None else read_vectors(Path(queries), opened.dim)
        return opened, vectors
    from msiam.data.streams import open_stream
    from msiam.run import open_gallery

    opened = open_gallery(folder, run)
    assert opened.model is not None  # open_gallery has brought it
    table = open_stream(queries)
    if column is None:
        others = {c: t for c, t in opened.model.columns.items() if c != opened.manifest.column}
        column = only_column(others or opened.model.columns, table.columns, queries)
    return opened, table_queries(opened.model, table, column, seed)


def _nothing(gallery: Path) -> GalleryError:
    return GalleryError(
        f"{gallery}: nothing that was measured does all that is asked; it is left as it was. Ask "
        "for a lower recall, more memory or more time"
    )


def _source(opened: Gallery, queries: str | None) -> str:
    """What was searched with, and what that says."""
    if queries is not None:
        return queries
    return (
        "vectors of the gallery itself, held out. What is embedded by another tower lies "
        "elsewhere, and may find less: if you search with that, give --queries"
    )


def _say(what: str) -> None:
    progress.print(what, soft_wrap=True)


def print_measured(found: list[Measured], chosen: Measured | None, wanted: Wanted) -> None:
    """A line for each index: its fastest search that is good enough, or else its best one."""
    table = Table(box=None, pad_edge=False)
    for heading in ("", "index", "search"):
        table.add_column(heading, no_wrap=True)
    figures = ("at least", "alone", "in a batch", "memory", "disk", "build")
    for heading in (f"recall@{wanted.k}", *figures):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in _best_of_each(found, wanted):
        table.add_row(
            "→" if one is chosen else "", one.options.factory, _parameters(one),
            f"{one.recall:.4f}", f"{one.low:.4f}", seconds_as_text(one.single),
            seconds_as_text(one.batch), bytes_as_text(one.memory), bytes_as_text(one.disk),
            seconds_as_text(one.build),
        )  # fmt: skip
    # A console never prints wider than it is, so that this one is wide enough.
    Console(width=max(output.width, WIDTH), highlight=False).print(table)


def _best_of_each(found: list[Measured], wanted: Wanted) -> list[Measured]:
    chosen = []
    for factory in dict.fromkeys(one.options.factory for one in found):
        of = [one for one in found if one.options.factory == factory]
        enough = [one for one in of if one.low >= wanted.recall]
        chosen.append(min(enough, key=wanted.time) if enough else max(of, key=lambda m: m.recall))
    return chosen


def _parameters(one: Measured) -> str:
    told = one.options.model_dump(exclude={"factory"}, exclude_none=True)
    return " ".join(f"{key}={value:g}" for key, value in told.items())


def _named(one: Measured) -> str:
    return " ".join(filter(None, (one.options.factory, _parameters(one))))


def _as_json(one: Measured) -> dict[str, Any]:
    figures = {f.name: getattr(one, f.name) for f in dataclasses.fields(one) if f.name != "options"}
    return {**one.options.model_dump(exclude_none=True), **figures}
