"""msiam add: more records for a gallery."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from msiam.cli.console import output, print_json, progress

if TYPE_CHECKING:
    from msiam.towers.inference import Precision


def add(
    gallery: Annotated[Path, typer.Argument(help="A gallery's folder.")],
    table: Annotated[str, typer.Argument(help="The table whose rows become records.")],
    upsert: Annotated[
        bool, typer.Option("--upsert", help="Replace records that have the same ids.")
    ] = False,
    id: Annotated[
        str | None, typer.Option(help="The column with the ids [as the gallery was built].")
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for another process that is writing the gallery.")
    ] = False,
    run: Annotated[
        Path | None, typer.Option(help="The run, where it is not where the gallery was built.")
    ] = None,
    precision: Annotated[
        str, typer.Option(help="fp32, bf16 (faster where the machine has it), or auto.")
    ] = "fp32",
    json: Annotated[bool, typer.Option("--json", help="Print what was added as JSON.")] = False,
) -> None:
    """Embed a table's rows and add them to a gallery, while others search it."""
    from msiam.data.streams import open_stream
    from msiam.progress import items_bar
    from msiam.run import open_gallery

    opened = open_gallery(gallery, run)
    stream = open_stream(table)
    with items_bar(progress, "adding", len(stream)) as bar:
        (opened.upsert if upsert else opened.add)(
            stream, id, wait=wait, progress=bar, precision=cast("Precision", precision)
        )
    added = len(stream) - len(opened.rejected)
    if json:
        said = {"added": added, "records": len(opened), "rejected": opened.rejected}
        print_json({"gallery": str(gallery), **said})
        return
    for row, reason in opened.rejected:
        progress.print(f"row {row} is left out: {reason}", soft_wrap=True)
    output.print(f"{added:,} added; {len(opened):,} records: {gallery}", soft_wrap=True)
