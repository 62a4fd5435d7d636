"""Recipe to run: the one place where everything meets."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import transformers
from rich.console import Console
from torch import nn

from msiam.data.batches import BatchSampler, Collator
from msiam.data.parts import Parts, training_parts
from msiam.data.sources import Source
from msiam.errors import RecipeError, RunError
from msiam.evaluation.calibration import Calibration
from msiam.evaluation.evaluator import Evaluator
from msiam.evaluation.measure import build_evaluators, embed_part, measure
from msiam.evaluation.pairs import pair_scores
from msiam.paths import write_text
from msiam.recipe import GIVEN, Recipe
from msiam.run.folder import RunFolder
from msiam.run.report import report_run
from msiam.run.run import QUIET, Run, load, prepare_items
from msiam.towers.model import Model, pick_device
from msiam.training.objective import Objective, build_loss
from msiam.training.progress import ShowProgress, items_bar
from msiam.training.trainer import MarkComplete, Trainer, last_checkpoint, training_arguments


def train(
    what: Model | Recipe | Mapping[str, Any] | str | Path,
    data: Source | None = None,
    *,
    test: Source | None = None,
    folder: str | Path | None = None,
    label: Mapping[str, Any] | None = None,
    loss: str | Mapping[str, Any] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    allow_rejected: bool = False,
    console: Console = QUIET,
    **settings: Any,
) -> Run:
    """Train a model, evaluate it, and write the run's folder.

    Args:
        what: a recipe (a file, a dict, a ``Recipe``), or a ``Model`` built from towers.
        data: rows from Python (a list of dicts, a ``datasets.Dataset``, a file), in the place of
            the recipe's table.
        test: held-out rows, likewise.
        folder: where the run goes; ``runs/NAME`` by default.
        label, loss, settings: for a ``Model``, the recipe's keys: ``label={"column": "dup",
            "same": 1}``, ``loss="infonce"``, and any key of ``train`` (``epochs=3``).
        resume: go on from the last checkpoint; on the CPU this gives bit for bit the weights of a
            training that was never interrupted.
        console: where progress is shown; silent by default.

    Raises:
        MsiamError: a recipe, table, plugin or folder is not as it should be; the message says
            what would be right.
    """
    recipe = _recipe(what, folder, label, loss, settings, given=data is not None)
    place = RunFolder(folder or Path("runs") / recipe.name)
    with place.writing():
        place.claim(resume, overwrite)
        if resume:
            if Recipe.read(place.recipe) != recipe:
                raise RunError(
                    f"{place.recipe}: differs from the recipe given, and a run goes on only as it "
                    "began; leave the changes out, or begin again with --overwrite"
                )
            if place.finished:
                return load(place.path)
        return _train(recipe, what, place, data, test, allow_rejected, console)


def _train(
    recipe: Recipe,
    what: Any,
    place: RunFolder,
    source: Source | None,
    test: Source | None,
    allow_rejected: bool,
    console: Console,
) -> Run:
    began = time.perf_counter()
    transformers.logging.set_verbosity_error()  # progress and errors are said in our own words
    transformers.set_seed(recipe.train.seed)
    model = what if isinstance(what, Model) else Model(recipe.towers, recipe.columns)
    loss = build_loss(recipe.loss, list(recipe.columns), recipe.data.label is not None)
    evaluators = build_evaluators(recipe.evaluate)
    parts = training_parts(recipe.data, model, recipe.train.seed, source, test)
    _fit(model, parts, console)
    prepare_items(parts, model, place.rejected, allow_rejected, console)
    for note in parts.notes:
        console.print(note, style="dim", highlight=False, soft_wrap=True)

    write_text(place.recipe, recipe.to_yaml())  # from here on there is a run to resume
    history = _optimise(recipe, model, loss, evaluators, parts, place, console)
    model.eval()
    calibration = Calibration.fit(*pair_scores(embed_part(model, parts, "validation")))
    model.save(place.model)
    write_text(place.calibration, calibration.to_json())
    with items_bar(console, "evaluating") as progress:
        embedded = embed_part(model, parts, parts.held_out, progress)
    found = measure(evaluators, embedded, calibration)
    run = Run(place, model, recipe, dict(found.metrics), calibration)
    watched = next(iter(evaluators.values())).primary
    report_run(place.report, run, parts, found, history, watched)
    run.metrics["training"] = _facts(parts, model, history, began)
    # Last, since it marks the run as finished.
    write_text(place.metrics, json.dumps(run.metrics, indent=1))
    shutil.rmtree(place.checkpoints, ignore_errors=True)
    return run


def _optimise(
    recipe: Recipe,
    model: Model,
    loss: nn.Module,
    evaluators: dict[str, Evaluator],
    parts: Parts,
    place: RunFolder,
    console: Console,
) -> list[dict[str, Any]]:
    """Train ``model`` in place; returns the trainer's log, one dict an entry."""
    settings, examples = recipe.train, parts.examples["train"]
    watched = next(iter(evaluators.values()))

    def validate() -> dict[str, float]:
        metrics = watched.evaluate(embed_part(model, parts, "validation"), None).metrics
        return {watched.primary: metrics[watched.primary]}

    sampler = BatchSampler(len(examples), settings.batch_size, settings.seed)
    progress = ShowProgress(console, watched.primary, settings.batch_size)
    callbacks: list[transformers.TrainerCallback] = [MarkComplete(), progress]
    if settings.patience is not None:
        callbacks.append(transformers.EarlyStoppingCallback(settings.patience))
    trainer = Trainer(
        Objective(model, loss),
        training_arguments(settings, place.checkpoints, len(sampler), watched.primary),
        Collator(examples, model.columns, parts.items, model.encoders),
        sampler,
        validate,
        callbacks=callbacks,
    )
    trainer.remove_callback(transformers.PrinterCallback)
    checkpoint = last_checkpoint(place.checkpoints)
    with progress:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    return trainer.state.log_history


def _recipe(
    what: Any, folder: Any, label: Any, loss: Any, settings: dict[str, Any], given: bool
) -> Recipe:
    """The recipe that ``train`` was asked for, whichever way it was said."""
    if isinstance(what, Model):
        data = {"table": GIVEN, **({"label": dict(label)} if label else {})}
        content = {**what.describe(), "data": data, "train": settings}
        content |= {"name": Path(folder).name} if folder else {}
        content |= {"loss": loss} if loss else {}
        return Recipe.parse(content, "train")
    if label or loss or settings:
        raise RecipeError(
            "train: label, loss and settings go with a Model; a recipe has them itself"
        )
    recipe = (
        what
        if isinstance(what, Recipe)
        else (Recipe.parse(dict(what)) if isinstance(what, Mapping) else Recipe.read(what))
    )
    if given:
        recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"table": GIVEN})})
    return recipe


def _fit(model: Model, parts: Parts, console: Console) -> None:
    """Let towers without weights learn what they need from the training items alone."""
    train = parts.examples["train"]
    for name, items in parts.items.items():
        tower = model.tower(name)
        if not tower.ready:
            columns = [c for c, t in model.columns.items() if t == name]
            used = np.unique(np.concatenate([train.columns[c] for c in columns]))
            tower.fit([items.values[number] for number in used])
        trained = f" ({tower.parameter_count(trained=True):,} trained)"
        console.print(
            f"tower {name}: {tower.options.encoder}, {tower.parameter_count():,} parameters"
            f"{trained if tower.options.freeze else ''}, {len(items.values):,} distinct items",
            highlight=False,
            soft_wrap=True,
        )
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise RecipeError(
            "towers: nothing is left to train, since every encoder is frozen and has no head; "
            "set head: linear, or leave one freeze out"
        )
    model.to(pick_device())  # where frozen encoders run before training begins


def _facts(
    parts: Parts, model: Model, history: list[dict[str, Any]], began: float
) -> dict[str, float]:
    """What the training was, for metrics.json."""
    sizes = {f"{part}_rows": len(examples) for part, examples in parts.examples.items()}
    return {
        **sizes,
        "rejected_rows": len(parts.rejected),
        "parameters": sum(p.numel() for p in model.parameters()),
        "steps": max((entry.get("step", 0) for entry in history), default=0),
        "seconds": round(time.perf_counter() - began, 1),
    }
