"""msiam demo: emoji from table to search, in about two minutes, with no data of one's own."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from msiam.cli.console import output, print_json, print_metrics, progress
from msiam.cli.search import print_hits


def demo(
    out: Annotated[Path, typer.Option(help="Where the run, pictures and galleries go.")] = Path(
        "runs/emoji"
    ),
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Override a key: train.epochs=3.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Train names ↔ pictures of emoji, build galleries, search both ways, write the report."""
    import msiam
    from msiam.demo import emoji_table
    from msiam.run import train

    table = emoji_table(out / "emoji")
    recipe = msiam.Recipe.read(
        Path(msiam.__file__).parent / "demo.yaml", [f"data.table={table}", *(set_ or [])]
    )
    run = train(recipe, folder=out / "run", overwrite=True, console=progress)
    if json:
        print_json({"run": str(run.folder.path), "metrics": run.metrics})
    else:
        print_metrics(run.metrics)
    model, place = run.model, run.folder.path
    pictures = msiam.Gallery.build(model, table, "picture", out / "pictures", "id", run=place)
    names = msiam.Gallery.build(model, table, "name", out / "names", "id", run=place)
    if json:
        return
    for query in ("red heart", "cat", "flag with a red circle"):
        print_hits(query, pictures.search(query, k=5), ["name"])
    for query in ("1f98a", "1f355"):
        file = out / "emoji" / "pictures" / f"{query}.png"
        print_hits(str(file), names.search(str(file), k=5), ["name"])

    command = _command()
    fox = out / "emoji" / "pictures" / "1f98a.png"
    lines = [
        f"Report: {run.folder.report}",
        "",
        "Worth trying next:",
        f'  {command} search {out / "pictures"} "a smiling face" "green vegetable"',
        f"  {command} search {out / 'names'} {fox}",
        f'  {command} match {out / "run"} "fox" {fox}',
    ]
    for line in lines:
        output.print(line, soft_wrap=True)


def _command() -> str:
    """How this very command line was called, so that what is printed works as printed."""
    called = Path(sys.argv[0])
    found = shutil.which("msiam")
    return "msiam" if found and Path(found).resolve() == called.resolve() else str(called)
