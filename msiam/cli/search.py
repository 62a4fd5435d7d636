"""msiam search: the nearest records of a gallery."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer
from rich.table import Table

from msiam.cli.console import output, print_json

if TYPE_CHECKING:
    from msiam.gallery.searching import Hit
    from msiam.towers.inference import Precision


def search(
    gallery: Annotated[Path, typer.Argument(help="A gallery's folder.")],
    queries: Annotated[list[str], typer.Argument(help="Texts, or pictures' files.")],
    k: Annotated[int, typer.Option("-k", help="How many records a query.")] = 10,
    column: Annotated[
        str | None,
        typer.Option(
            help="Which column the queries are of [one other than the gallery's that reads them]."
        ),
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="The run, where it is not where the gallery was built.")
    ] = None,
    precision: Annotated[
        str, typer.Option(help="fp32, bf16 (faster where the machine has it), or auto.")
    ] = "fp32",
    json: Annotated[bool, typer.Option("--json", help="Print the records as JSON.")] = False,
) -> None:
    """Find what is nearest to each query: texts or pictures, whichever the towers read."""
    from msiam.run import open_gallery

    opened = open_gallery(gallery, run)
    found = opened.search(queries, k=k, column=column, precision=cast("Precision", precision))
    assert opened.model is not None  # open_gallery has brought it
    columns = list(dict.fromkeys([opened.manifest.column, *opened.model.columns]))
    if json:
        print_json(
            [
                {"query": query, "hits": [dataclasses.asdict(hit) for hit in hits]}
                for query, hits in zip(queries, found, strict=True)
            ]
        )
        return
    for query, hits in zip(queries, found, strict=True):
        print_hits(query, hits, columns)


def print_hits(query: str, hits: list[Hit], columns: list[str]) -> None:
    """One query's records: score, id, and those of the model's columns that the records have."""
    output.print(query, style="bold", soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    table.add_column("score", justify="right")
    table.add_column("id", overflow="fold")
    shown = [column for column in columns if any(column in hit.record for hit in hits)]
    for column in shown:
        table.add_column(column, overflow="fold")
    for hit in hits:
        texts = [" ".join(str(hit.record.get(column, "")).split()) for column in shown]
        table.add_row(f"{hit.score:.3f}", hit.id, *(shortened(text) for text in texts))
    output.print(table)
    output.print()


def shortened(text: str, most: int = 100) -> str:
    return text[:most] + ("…" if len(text) > most else "")
