"""msiam train: a recipe, or a table and its columns, to a run."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from msiam.cli.console import follows, output, pairs, print_json, print_metrics, progress
from msiam.errors import RecipeError


def train(
    recipe: Annotated[Path | None, typer.Argument(help="A recipe (YAML).")] = None,
    data: Annotated[str | None, typer.Option(help="Without a recipe: the table.")] = None,
    columns: Annotated[
        str | None, typer.Option(help="Without a recipe: column=encoder,column=encoder.")
    ] = None,
    shared: Annotated[bool, typer.Option("--shared", help="All columns share one tower.")] = False,
    label: Annotated[
        str | None, typer.Option(help="Labelled pairs: column=VALUE, the value that means same.")
    ] = None,
    score: Annotated[
        str | None,
        typer.Option(
            help="Scored pairs: COLUMN=NUMBER, a pair is the same from that score on; with three "
            "columns COLUMN alone."
        ),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(help="Items of classes: the table's column with them; or COLUMN=column,…"),
    ] = None,
    loss: Annotated[
        str | None,
        typer.Option(
            help="A loss by name, see msiam plugins [infonce for pairs, contrastive for labelled "
            "and cosent for scored ones, supcon for classes, triplet for three columns of texts or "
            "pictures alone]."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder [runs/NAME].")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Override a key: train.epochs=3.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where it stopped.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Begin again.")] = False,
    allow_rejected: Annotated[
        bool, typer.Option("--allow-rejected", help="Go on though over 5 % cannot be read.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Train a model from a recipe; evaluate it; write the run with its report.

    Without a recipe: msiam train --data pairs.csv --columns question1=lstm,question2=lstm
    --shared --label is_duplicate=1

    On several GPUs: torchrun --nproc-per-node 4 -m msiam train RECIPE
    """
    from msiam.recipe import Recipe, apply_override

    if recipe is not None and (data or columns):
        raise RecipeError("train: give a recipe, or --data with --columns, but not both")
    beside = {
        "--shared": shared, "--label": label, "--score": score, "--classes": classes, "--loss": loss
    }  # fmt: skip
    if recipe is not None and (found := [option for option, value in beside.items() if value]):
        raise RecipeError(
            f"train: found {' and '.join(found)} with a recipe, which says that itself; change a "
            "key of it with --set, for example --set loss=triplet"
        )
    if recipe is not None:
        resolved = Recipe.read(recipe, set_)
    elif data and columns:
        content = recipe_content(
            data, pairs(columns, "--columns", "title=lstm,body=lstm"), shared, loss
        )
        said = what_is_said(label, score, classes)
        content["data"] |= said
        if len(content["columns"]) == 3 and not loss and not said:
            content["loss"] = "triplet"  # what three columns are for; a recipe's own takes two
        for override in set_ or []:
            apply_override(content, override)
        resolved = Recipe.parse(content, "command line")
    else:
        raise RecipeError("train: give a recipe, or --data TABLE with --columns NAME=ENCODER,…")

    if int(os.environ.get("WORLD_SIZE", 1)) > 1 and not follows():
        # So torchrun ends the first process when another one is gone.
        signal.signal(signal.SIGTERM, signal.default_int_handler)

    from msiam.run import train as train_run
    from msiam.run.folder import RunFolder

    place = RunFolder(out or Path("runs") / resolved.name)
    try:
        run = train_run(
            resolved,
            folder=place.path,
            resume=resume,
            overwrite=overwrite,
            allow_rejected=allow_rejected,
            console=progress,
        )
    except KeyboardInterrupt:
        begun = place.recipe.is_file() and not place.finished
        what = "; go on" if begun else " before training began; begin again"
        how = " and --resume" if begun else ""
        if not follows():
            progress.print(f"msiam: stopped{what} with the same command{how}", soft_wrap=True)
        raise typer.Exit(130) from None
    if follows():
        return
    if json:
        print_json({"run": str(run.folder.path), "metrics": run.metrics})
        return
    print_metrics(run.metrics)
    output.print(f"run:    {run.folder.path}", soft_wrap=True)
    output.print(f"report: {run.folder.report}", soft_wrap=True)


def recipe_content(
    table: str, columns: dict[str, str], shared: bool, loss: str | None
) -> dict[str, Any]:
    """The recipe that the options stand for, but for what is said of the rows."""
    encoders = sorted(set(columns.values()))
    if shared and len(encoders) > 1:
        raise RecipeError(
            f"--shared: one tower has one encoder; --columns names {' and '.join(encoders)}"
        )
    tower_of = dict.fromkeys(columns, "shared") if shared else tower_names(columns)
    content: dict[str, Any] = {
        "name": Path(table).stem or "run",
        "data": {"table": table},
        "columns": tower_of,
        "towers": {tower_of[column]: {"encoder": name} for column, name in columns.items()},
    }
    return content | ({"loss": loss} if loss else {})


def what_is_said(label: str | None, score: str | None, classes: str | None) -> dict[str, Any]:
    """The keys of ``data`` that --label, --score and --classes stand for.

    Raises:
        RecipeError: --label without a column or a value.
    """
    from msiam.recipe import scalar

    said: dict[str, Any] = {}
    if label:
        column, _, value = label.partition("=")  # the first: a value may hold commas and more of it
        if not (column and value):
            raise RecipeError(
                f"--label {label}: write it as COLUMN=VALUE, for example is_duplicate=1"
            )
        said["label"] = {"column": column, "same": scalar(value)}
    if score:
        column, _, value = score.partition("=")
        said["score"] = {"column": column, "same": scalar(value)}
    if classes:
        said["classes"] = pairs(classes, "--classes", "image=kind") if "=" in classes else classes
    return said


def tower_names(columns: Iterable[str]) -> dict[str, str]:
    """A tower's name for each column: the column's own, or one like it that a tower may have."""
    from msiam.towers.model import tower_name

    names: dict[str, str] = {}
    for column in columns:
        name = tower_name(column)
        while name in names.values():
            name += "_"
        names[column] = name
    return names
