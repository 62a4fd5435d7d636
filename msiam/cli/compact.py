"""msiam compact: a gallery in one piece again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from msiam.cli.console import output, print_json


def compact(
    gallery: Annotated[Path, typer.Argument(help="A gallery's folder.")],
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for another process that is writing the gallery.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False,
) -> None:
    """Write a gallery anew after many changes, under one index. Nothing is embedded again."""
    from msiam.gallery.gallery import Gallery

    opened = Gallery.open(gallery)
    before = sum(stored.size for stored in opened.manifest.files)
    opened.compact(wait=wait)
    after = sum(stored.size for stored in opened.manifest.files)
    if json:
        sizes = {"bytes_before": before, "bytes": after}
        print_json({"gallery": str(gallery), "records": len(opened), **sizes})
        return
    output.print(
        f"{len(opened):,} records in {after / 1e6:,.1f} MB, before {before / 1e6:,.1f}: {gallery}",
        soft_wrap=True,
    )
