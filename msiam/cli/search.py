"""msiam search: the nearest records of a gallery."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from msiam.cli.console import output, print_json

if TYPE_CHECKING:
    from msiam.gallery.gallery import Hit


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
    json: Annotated[bool, typer.Option("--json", help="Print the records as JSON.")] = False,
) -> None:
    """Find what is nearest to each query: texts or pictures, whichever the towers read."""
    from msiam.run import open_gallery

    opened = open_gallery(gallery, run)
    found = opened.search(queries, k=k, column=column)
    if json:
        print_json(
            [
                {"query": query, "hits": [dataclasses.asdict(hit) for hit in hits]}
                for query, hits in zip(queries, found, strict=True)
            ]
        )
        return
    for query, hits in zip(queries, found, strict=True):
        print_hits(query, hits, opened.manifest.column)


def print_hits(query: str, hits: list[Hit], shown: str) -> None:
    """One query's records: score, id, and the column that says most about them."""
    table = Table(title=query, title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("score", justify="right")
    table.add_column("id", overflow="fold")
    table.add_column(shown, overflow="fold")
    for hit in hits:
        text = " ".join(str(hit.record.get(shown, "")).split())
        table.add_row(f"{hit.score:.3f}", hit.id, text[:100] + ("…" if len(text) > 100 else ""))
    output.print(table)
    output.print()
