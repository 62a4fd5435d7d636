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
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where it stopped; begin where none was begun.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Begin again.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print what was written as JSON.")] = False,
) -> None:
    """Embed one column of a table; unreadable rows are set aside and named.

    The table may be of any length. One that was stopped goes on with the same command and --resume.
    """
    from msiam.data.streams import open_stream
    from msiam.embed import embed_table
    from msiam.run import load
    from msiam.towers.inference import How

    model = load(run).model
    stream = open_stream(table)
    column = column or only_column(model.columns, stream.columns, table)
    how = How(precision=cast("Precision", precision), keep=True)
    try:
        written = embed_table(
            model, stream, out, column, id,
            how=how, resume=resume, overwrite=overwrite, console=progress,
        )  # fmt: skip
    except KeyboardInterrupt:
        progress.print("msiam: stopped; go on with the same command and --resume")
        raise typer.Exit(130) from None
    if json:
        print_json(
            {
                "file": str(out),
                "embedded": written.count,
                "left_out": written.left_out,
                "rejected": written.rejected,
            }
        )
        return
    for row, reason in written.rejected:
        progress.print(f"row {row} is left out: {reason}", soft_wrap=True)
    if len(written.rejected) < written.left_out:
        progress.print(f"{written.left_out:,} rows in all are left out")
    output.print(f"{written.count:,} embeddings of {model.dim} numbers: {out}", soft_wrap=True)
