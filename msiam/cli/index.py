"""msiam index: a table to a searchable gallery."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from msiam.cli.console import only_column, output, print_json, progress

if TYPE_CHECKING:
    from msiam.towers.inference import Precision


def index(
    run: Annotated[Path, typer.Argument(help="A run's or a model's folder.")],
    table: Annotated[str, typer.Argument(help="The table whose rows become records.")],
    column: Annotated[
        str | None, typer.Option(help="Which column to index, where the table has several.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The gallery's folder [RUN/gallery].")] = None,
    id: Annotated[
        str | None, typer.Option(help="The column with the records' ids [row numbers].")
    ] = None,
    backend: Annotated[
        str,
        typer.Option(help="What searches: a registered name, or a URL, as pgvector://host/db."),
    ] = "faiss",
    backend_option: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="One of its options; may be given several times."),
    ] = None,
    precision: Annotated[
        str, typer.Option(help="fp32, bf16 (faster where the machine has it), or auto.")
    ] = "fp32",
    json: Annotated[bool, typer.Option("--json", help="Print what was built as JSON.")] = False,
) -> None:
    """Embed a table's rows and build a gallery that msiam search can search."""
    from msiam.data.streams import open_stream
    from msiam.gallery.backend_url import given_options
    from msiam.gallery.gallery import Gallery
    from msiam.progress import items_bar
    from msiam.run import load

    model = load(run).model
    folder = out or run / "gallery"
    stream = open_stream(table)
    column = column or only_column(model.columns, stream.columns, table)
    with items_bar(progress, "indexing", len(stream)) as bar:
        gallery = Gallery.build(
            model, stream, column, folder, id,
            backend=backend, options=given_options(backend_option or ()), run=run, progress=bar,
            precision=cast("Precision", precision),
        )  # fmt: skip
    if json:
        print_json(
            {
                "gallery": str(folder),
                "column": column,
                "records": len(gallery),
                "rejected": gallery.rejected,
            }
        )
        return
    for row, reason in gallery.rejected:
        progress.print(f"row {row} is left out: {reason}", soft_wrap=True)
    output.print(f"{len(gallery):,} records of column '{column}': {folder}", soft_wrap=True)
