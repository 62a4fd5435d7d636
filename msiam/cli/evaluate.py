"""msiam evaluate: a run's figures, on its held-out part or on another table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from msiam.cli.console import output, print_json, print_metrics, progress


def evaluate(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    table: Annotated[
        str | None, typer.Argument(help="Another table [the run's own held-out part].")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write a report here.")] = None,
    allow_rejected: Annotated[
        bool, typer.Option("--allow-rejected", help="Go on though over 5 % cannot be read.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Measure a trained model on rows that it has not seen."""
    from msiam.paths import check_place
    from msiam.run import load

    if report:
        check_place(report)
    metrics = load(run).evaluate(
        table, report=report, allow_rejected=allow_rejected, console=progress
    )
    if json:
        print_json(metrics)
        return
    print_metrics(metrics)
    if report:
        output.print(f"report: {report}", soft_wrap=True)
