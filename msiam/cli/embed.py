"""msiam embed: a table's embeddings, to a file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from msiam.cli.console import follows, only_column, output, print_json, progress
from msiam.errors import RecipeError

if TYPE_CHECKING:
    from msiam.embedding.table import Crew
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
    engine: Annotated[
        str, typer.Option(help="local, or ray: workers on all machines of a Ray cluster.")
    ] = "local",
    workers: Annotated[
        int | None, typer.Option(help="How many workers of Ray [one a GPU, or one a CPU].")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print what was written as JSON.")] = False,
) -> None:
    """Embed one column of a table; unreadable rows are set aside and named.

    The table may be of any length. One that was stopped goes on with the same command and --resume;
    a whole result that is there is replaced.
    Several processes of one machine or of many share the work with --engine ray, or when torchrun
    starts them; run, table and --out then lie on a file system that all of them see.
    """
    from msiam.data.streams import open_stream
    from msiam.embedding.table import embed_table
    from msiam.run import load
    from msiam.towers.inference import How

    crew = _crew(engine, run, workers)
    model = load(run).model
    stream = open_stream(table)
    column = column or only_column(model.columns, stream.columns, table)
    how = How(precision=cast("Precision", precision), keep=True)
    try:
        written = embed_table(
            model, stream, out, column, id,
            how=how, resume=resume, overwrite=overwrite, console=progress, crew=crew,
        )  # fmt: skip
    except KeyboardInterrupt:
        progress.print("msiam: stopped; go on with the same command and --resume")
        raise typer.Exit(130) from None
    if follows():
        return
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


def _crew(engine: str, run: Path, workers: int | None) -> Crew | None:
    """Who embeds; None: this process, or those of torchrun."""
    if engine == "ray":
        from msiam.embedding.ray import Ray

        return Ray(run, workers)
    if engine != "local":
        raise RecipeError(f"--engine {engine}: found neither local nor ray")
    if workers is not None:
        raise RecipeError(f"--workers {workers}: belongs to --engine ray")
    if "RANK" in os.environ:
        from msiam.embedding.torchrun import Processes  # before the model goes to an accelerator

        return Processes()
    return None
