"""msiam check: whether a gallery's files are as they were written."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from msiam.cli.console import output, print_json


def check(
    gallery: Annotated[Path, typer.Argument(help="A gallery's folder.")],
    json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False,
) -> None:
    """Read all of a gallery's files. Opening it reads a sample of those over 64 MiB."""
    from msiam.gallery.gallery import Gallery

    opened = Gallery.open(gallery)
    opened.check()
    files = opened.manifest.files
    size = sum(stored.size for stored in files)
    if json:
        said = {"records": len(opened), "files": len(files), "bytes": size}
        print_json({"gallery": str(gallery), **said})
        return
    output.print(
        f"{len(opened):,} records, {len(files)} files, {size / 1e6:,.1f} MB, as they were "
        f"written: {gallery}",
        soft_wrap=True,
    )
