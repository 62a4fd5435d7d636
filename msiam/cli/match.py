"""msiam match: do two items belong together?"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from msiam.cli.console import output, print_json


def match(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    a: Annotated[str, typer.Argument(help="A text, or a picture's file.")],
    b: Annotated[str, typer.Argument(help="A text, or a picture's file.")],
    json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """How similar two items are, whether they are the same at the run's threshold, how sure."""
    from msiam.run import load

    found = load(run).match(a, b)
    if json:
        print_json(dataclasses.asdict(found))
        return
    said = "same" if found.same else "not the same"
    output.print(
        f"{said}: similarity {found.similarity:.4f} (same from {found.threshold:.4f}), probability "
        f"of same {found.probability:.3f} ({found.probability_at_threshold:.3f} at the threshold)"
    )
