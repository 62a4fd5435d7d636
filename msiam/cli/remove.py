"""msiam remove: records that a gallery is to forget."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from msiam.cli.console import output, print_json
from msiam.errors import GalleryError


def remove(
    gallery: Annotated[Path, typer.Argument(help="A gallery's folder.")],
    ids: Annotated[list[str] | None, typer.Argument(help="The records' ids.")] = None,
    where: Annotated[
        str | None,
        typer.Option(metavar="FILTER", help="All such records: \"price < 50 and colour = 'Blue'\""),
    ] = None,
    missing_ok: Annotated[
        bool, typer.Option("--missing-ok", help="It is no error if some are not there.")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for another process that is writing the gallery.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print what was removed as JSON.")] = False,
) -> None:
    """Remove records from a gallery, by their ids or by a filter."""
    from msiam.gallery.gallery import Gallery

    if bool(ids) == (where is not None):
        raise GalleryError("remove: give ids, or --where FILTER")
    opened = Gallery.open(gallery)
    count = opened.remove(ids or None, where=where, missing_ok=missing_ok, wait=wait)
    if json:
        print_json({"gallery": str(gallery), "removed": count, "records": len(opened)})
        return
    output.print(f"{count:,} removed; {len(opened):,} records: {gallery}", soft_wrap=True)
