"""msiam embed: a table's embeddings, to a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from msiam.cli.console import only_column, output, print_json, progress

if TYPE_CHECKING:
    from msiam.towers.inference import Precision


def embed(
    run: Annotated[Path, typer.Argument(help="A run's or a model's folder.")],
    table: Annotated[str, typer.Argument(help="The table to embed.")],
    out: Annotated[Path, typer.Option(help="Where to: a .parquet file of id and embedding.")],
    column: Annotated[
        str | None, typer.Option(help="Which column, where the table has several.")
    ] = None,
    id: Annotated[
        str | None, typer.Option(help="The column with the rows' ids [row numbers].")
    ] = None,
    precision: Annotated[
        str, typer.Option(help="fp32, bf16 (faster where the machine has it), or auto.")
    ] = "fp32",
    json: Annotated[bool, typer.Option("--json", help="Print what was written as JSON.")] = False,
) -> None:
    """Embed one column of a table; unreadable rows are set aside and named."""
    from msiam.data.sources import open_table
    from msiam.embed import embed_table
    from msiam.progress import items_bar
    from msiam.run import load
    from msiam.towers.inference import How

    model = load(run).model
    opened = open_table(table)
    column = column or only_column(model.columns, opened.dataset.column_names, table)
    how = How(precision=cast("Precision", precision), keep=True)
    with items_bar(progress, "embedding") as bar:
        written = embed_table(model, opened, out, column, id, bar, how)
    if json:
        print_json({"file": str(out), "embedded": written.count, "rejected": written.rejected})
        return
    for row, reason in written.rejected:
        progress.print(f"row {row} is left out: {reason}", soft_wrap=True)
    output.print(f"{written.count:,} embeddings of {model.dim} numbers: {out}", soft_wrap=True)
