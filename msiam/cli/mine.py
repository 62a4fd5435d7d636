"""msiam mine: hard negatives for a table's positive pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from msiam.cli.console import output, print_json, progress

#: What each reason for leaving a candidate out is called.
SAID = {
    "held_out": "held out by the run",
    "known": "known to belong to the anchor",
    "duplicate": "the same text or bytes as anchor or positive",
    "skipped": "of the first ranks (--skip)",
    "max_score": "above --max-score",
    "margin": "within --margin of the positive",
    "relative_margin": "within --relative-margin of the positive",
}


def mine(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    out: Annotated[Path, typer.Option(help="Where to: a .parquet, .csv or .jsonl file.")],
    table: Annotated[
        str | None,
        typer.Argument(
            help="A table of pairs, mined as a whole [the training part of the run's own table, "
            "so that nothing held out gets in]."
        ),
    ] = None,
    negatives: Annotated[int, typer.Option(help="How many negatives each pair gets.")] = 5,
    from_: Annotated[
        str | None, typer.Option("--from", help="The anchors' column [the model's first].")
    ] = None,
    to: Annotated[
        str | None, typer.Option("--to", help="The positives' column [the model's second].")
    ] = None,
    gallery: Annotated[
        Path | None,
        typer.Option(help="A gallery's folder with the candidates [the positives' column]."),
    ] = None,
    range: Annotated[int, typer.Option(help="The last rank that is looked at.")] = 100,
    skip: Annotated[int, typer.Option(help="So many of the first ranks are left out.")] = 0,
    max_score: Annotated[
        float | None, typer.Option(help="The highest score of a negative [any].")
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(
            help="A negative must score at least this much below its positive [no such bound]."
        ),
    ] = None,
    relative_margin: Annotated[
        float | None,
        typer.Option(help="The same as a share of the positive's: 0.05 for at most 95 % of it."),
    ] = None,
    sample: Annotated[
        str, typer.Option(help="Which of those left: top, the nearest, or random.")
    ] = "top",
    seed: Annotated[int, typer.Option(help="For --sample random.")] = 0,
    wide: Annotated[
        bool, typer.Option("--wide", help="A row a pair, with columns negative_1, negative_2 …")
    ] = False,
    allow_rejected: Annotated[
        bool, typer.Option("--allow-rejected", help="Go on though over 5 % cannot be read.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print what was mined as JSON.")] = False,
) -> None:
    """Find hard negatives: the nearest items that are not known to belong to an anchor.

    A row of the file is a triplet, its columns called like the recipe's, and then 'negative'. With
    no TABLE, the training part of the run's own table is mined, and never what it held out; a
    TABLE that is given is mined as a whole.
    """
    from msiam.run.mining import mine_run

    rules = {
        "negatives": negatives,
        "range": range,
        "skip": skip,
        "max_score": max_score,
        "margin": margin,
        "relative_margin": relative_margin,
        "sample": sample,
        "seed": seed,
    }
    mined = mine_run(run, table, from_, to, gallery, wide, out, allow_rejected, progress, rules)
    if json:
        print_json({"file": str(out), "columns": list(mined.columns), **mined.summary})
        return
    print_summary(mined.summary, wide)
    output.print(
        f"{mined.summary['rows']:,} rows of {', '.join(mined.columns)}: {out}", soft_wrap=True
    )


def print_summary(summary: dict[str, Any], wide: bool) -> None:
    """What mining came to, in a few lines."""
    output.print(
        f"{summary['pairs']:,} pairs, {summary['candidates']:,} candidates, "
        f"{summary['negatives']:,} negatives",
        soft_wrap=True,
    )
    for reason, count in summary["dropped"].items():
        if count:
            output.print(f"  left out, {SAID[reason]}: {count:,}", soft_wrap=True)
    if summary["pairs_with_fewer"]:
        left_out = " and are left out" if wide else ""
        output.print(
            f"{summary['pairs_with_fewer']:,} pairs have fewer negatives than asked for{left_out}, "
            f"{summary['pairs_with_none']:,} of them none; a larger --range looks further",
            soft_wrap=True,
        )
    output.print(
        f"mean score: positives {summary['positive_score']:.3f}, negatives "
        f"{summary['negative_score']:.3f}",
        soft_wrap=True,
    )
