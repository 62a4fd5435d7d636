"""msiam dedupe: which records are near-duplicates, and which of them may go."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from msiam.cli.console import only_column, output, print_json, progress
from msiam.errors import RecipeError

if TYPE_CHECKING:
    from msiam.towers.inference import Precision


def dedupe(
    source: Annotated[str, typer.Argument(help="A table, or a gallery's folder.")],
    out: Annotated[
        Path, typer.Option(help="Where the pairs go: a .csv file; the groups go beside it.")
    ],
    run: Annotated[
        Path | None, typer.Option(help="The run that embeds [the one that made the gallery].")
    ] = None,
    column: Annotated[
        str | None, typer.Option(help="Which column, where the table has several.")
    ] = None,
    id: Annotated[
        str | None, typer.Option(help="The table's column with the ids [row numbers].")
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(help="The lowest similarity of near-duplicates [the run's threshold]."),
    ] = None,
    precision: Annotated[
        str, typer.Option(help="fp32, bf16 (faster where the machine has it), or auto.")
    ] = "fp32",
    json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON.")] = False,
) -> None:
    """Find near-duplicates: pairs of records that are the same, and the groups that they make.

    NAME.csv has the pairs with their similarity. NAME.groups.csv has a line for each record that
    may go, with the one of its group that stays: the first in the table.
    """
    from msiam.data.streams import open_stream
    from msiam.gallery.gallery import Gallery
    from msiam.gallery.manifest import MANIFEST
    from msiam.run import load
    from msiam.run.duplicates import dedupe_gallery, dedupe_table

    if (Path(source) / MANIFEST).is_file():
        if column is not None or id is not None:
            raise RecipeError(f"{source}: is a gallery, which has its --column and --id already")
        gallery = Gallery.open(source)
        found = dedupe_gallery(gallery, out, run, threshold=threshold, console=progress)
    elif run is None:
        raise RecipeError(f"{source}: is no gallery; name what embeds this table with --run")
    else:
        opened = load(run)
        stream = open_stream(source)
        column = column or only_column(opened.model.columns, stream.columns, source)
        found = dedupe_table(
            opened, stream, column, out, id,
            threshold=threshold, precision=cast("Precision", precision), console=progress,
        )  # fmt: skip
    if json:
        print_json({"pairs_file": str(out), **dataclasses.asdict(found)})
        return
    for row, reason in found.rejected:
        progress.print(f"row {row} is left out: {reason}", soft_wrap=True)
    output.print(
        f"{found.records:,} records, {found.pairs:,} pairs of a similarity from "
        f"{found.threshold:.4f} on: {out}",
        soft_wrap=True,
    )
    output.print(
        f"{found.removable:,} of them may go, so that one of each of {found.groups:,} groups is "
        f"left: {found.groups_file}",
        soft_wrap=True,
    )
