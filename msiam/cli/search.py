"""msiam search: the nearest records of a gallery."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer
from rich.table import Table

from msiam.cli.console import output, print_json
from msiam.errors import RecipeError

if TYPE_CHECKING:
    from msiam.gallery.hits import Hits
    from msiam.gallery.searchable import SearchOptions
    from msiam.towers.inference import Precision


def search(
    gallery: Annotated[Path, typer.Argument(help="A gallery's folder.")],
    queries: Annotated[list[str] | None, typer.Argument(help="Texts, or pictures' files.")] = None,
    k: Annotated[int, typer.Option("-k", help="How many records a query.")] = 10,
    like: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="Search with a record; may be given several times."),
    ] = None,
    vectors: Annotated[
        Path | None, typer.Option(metavar="FILE.npy", help="Search with vectors, (q, dim).")
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(
            metavar="FILTER", help="Only such records: \"price < 50 and colour = 'Blue'\""
        ),
    ] = None,
    threshold: Annotated[
        str | None,
        typer.Option(metavar="SCORE", help="Only from this score on; run: the run's threshold."),
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Only the best record of each value of a column."),
    ] = None,
    exclude: Annotated[
        bool, typer.Option("--exclude", help="Leave out records that are the query itself.")
    ] = False,
    exact: Annotated[
        bool, typer.Option("--exact", help="Go through all vectors, whatever the index.")
    ] = False,
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
    """Find what is nearest to each query: texts or pictures, whichever the towers read.

    --like and --vectors search with what is embedded already: --exclude, --column and --precision
    are of queries alone.
    """
    if not (queries or like or vectors):
        raise RecipeError("nothing to search with; give queries, --like ID or --vectors FILE.npy")
    _of_queries_alone(bool(queries), exclude, column, precision)
    options: SearchOptions = {
        "where": where, "threshold": _threshold(threshold), "group": group, "exact": exact
    }  # fmt: skip
    if queries or options["threshold"] == "run":
        from msiam.run import open_gallery

        opened = open_gallery(gallery, run)
    else:
        from msiam.gallery.gallery import Gallery

        opened = Gallery.open(gallery)
    found: list[tuple[str, str | int, Hits]] = []
    if queries:
        hits = opened.search(
            queries, k, column=column, precision=cast("Precision", precision), exclude=exclude,
            **options,
        )  # fmt: skip
        found += [("query", query, of) for query, of in zip(queries, hits, strict=True)]
    if like:
        hits = opened.search_ids(like, k, **options)
        found += [("like", id, of) for id, of in zip(like, hits, strict=True)]
    if vectors is not None:
        from msiam.gallery.query_file import read_vectors

        hits = opened.search_vectors(read_vectors(vectors, opened.dim), k, **options)
        found += [("row", row, of) for row, of in enumerate(hits)]
    if json:
        print_json(
            [{kind: of, "hits": [dataclasses.asdict(h) for h in best]} for kind, of, best in found]
        )
        return
    from msiam.gallery.filters import Filter

    models = opened.model.columns if opened.model is not None else ()
    asked = [*(Filter(where).columns if where else ()), *((group,) if group else ())]
    columns = list(dict.fromkeys([opened.manifest.column, *models, *asked]))
    for kind, of, best in found:
        print_hits(shortened(f"{of}" if kind == "query" else f"{kind} {of}", 500), best, columns)


def _of_queries_alone(queries: bool, exclude: bool, column: str | None, precision: str) -> None:
    """Raise where an option says something of queries, and there are none."""
    given = {
        "--exclude": exclude, "--column": column is not None, "--precision": precision != "fp32"
    }  # fmt: skip
    found = [option for option, is_given in given.items() if is_given]
    if found and not queries:
        raise RecipeError(
            f"search: found {' and '.join(found)} without queries; --like and --vectors take what "
            "is embedded already, and a record of --like is left out anyway: leave "
            f"{'it' if len(found) == 1 else 'them'} out"
        )


def _threshold(text: str | None) -> float | Literal["run"] | None:
    if text is None or text == "run":
        return cast("Literal['run'] | None", text)
    try:
        return float(text)
    except ValueError as error:
        raise RecipeError(f"--threshold: found '{text}'; give a number, or run") from error


def print_hits(query: str, hits: Hits, columns: list[str]) -> None:
    """One query's records: score, id, and those of the columns that the records have."""
    output.print(query, style="bold", soft_wrap=True)
    if not hits:
        output.print("no record")
        output.print()
        return
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
