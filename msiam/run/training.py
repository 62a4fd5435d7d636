"""Recipe to run: the one place where everything meets."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from rich.console import Console

from msiam.data.batches import Collator
from msiam.data.draws import draws_of
from msiam.data.examples import Examples
from msiam.data.parts import Parts, training_parts
from msiam.data.samplers import BatchSampler
from msiam.data.samplers_by_length import row_lengths
from msiam.data.sampling import build_sampler
from msiam.data.sources import Source
from msiam.data.variants import with_variants
from msiam.errors import RecipeError, RunError
from msiam.evaluation.evaluator import Evaluator
from msiam.evaluation.measure import (
    build_evaluators,
    calibrate,
    columns_read,
    embed_part,
    measure_parts,
)
from msiam.losses.base import WeightedSum
from msiam.paths import write_text
from msiam.progress import QUIET, SHOWN, items_bar
from msiam.recipe import Recipe
from msiam.run.facts import conclude, facts, introduce
from msiam.run.folder import RunFolder
from msiam.run.report import report_run
from msiam.run.resolving import asked, resolved
from msiam.run.run import Run, check_rows, load, prepare_items
from msiam.towers.beginning import fit_towers
from msiam.towers.device import pick_device
from msiam.towers.model import Model
from msiam.training import processes
from msiam.training.adversarial import Adversary, check_adversary
from msiam.training.checkpoints import KeepCheckpoints, last_checkpoint, seconds_before
from msiam.training.layers import check_layers, equipped
from msiam.training.objective import Objective, build_loss
from msiam.training.pace import KeepPace
from msiam.training.progress import ShowProgress
from msiam.training.trainer import Trainer, check_optimizer, training_arguments


def train(
    what: Model | Recipe | Mapping[str, Any] | str | Path,
    data: Source | None = None,
    *,
    test: Source | None = None,
    folder: str | Path | None = None,
    label: Mapping[str, Any] | None = None,
    score: str | Mapping[str, Any] | None = None,
    classes: str | Mapping[str, str] | None = None,
    loss: str | Mapping[str, Any] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    allow_rejected: bool = False,
    console: Console = SHOWN,
    **settings: Any,
) -> Run:
    """Train a model, evaluate it, and write the run's folder.

    Several processes train together where torchrun starts them. The first one writes the folder,
    evaluates and prints; the others need to see the folder, and return the same run.

    Args:
        what: a recipe (a file, a dict, a ``Recipe``), or a ``Model`` built from towers.
        data: rows from Python (a list of dicts, a ``datasets.Dataset``, a file), in the place of
            the recipe's table.
        test: held-out rows, likewise.
        folder: where the run goes; ``runs/NAME`` by default.
        label, score, classes, loss, settings: for a ``Model``, the recipe's keys:
            ``label={"column": "dup", "same": 1}``, ``score={"column": "alike", "same": 3}``,
            ``classes="kind"``, ``loss="infonce"``, and any key of ``train`` (``epochs=3``).
        resume: go on from the last checkpoint; on the CPU this gives bit for bit the weights of a
            training that was never interrupted.
        console: where progress is shown, stderr by default; ``rich.console.Console(quiet=True)``
            for silence.

    Raises:
        MsiamError: a recipe, table, plugin or folder is not as it should be; the message says
            what would be right.
    """
    said = {"label": label, "score": score, "classes": classes}
    recipe = asked(what, folder, said, loss, settings, data is not None, test is not None)
    place = RunFolder(folder or Path("runs") / recipe.name)
    with contextlib.ExitStack() as held:
        held.enter_context(processes.together())
        if processes.is_main():
            held.enter_context(place.writing())
            place.check(resume, overwrite)
        else:
            console = QUIET
        checkpoint = _last_checkpoint(place) if resume else None
        keeper = KeepCheckpoints(seconds_before(checkpoint))
        transformers.logging.set_verbosity_error()  # progress and errors are said in our own words
        transformers.set_seed(recipe.train.seed)
        processes.check_chunks(recipe.train.chunk)
        model = what if isinstance(what, Model) else Model(recipe.towers, recipe.columns)
        objective = build_loss(recipe.loss, model, recipe.data.targets)
        evaluators = build_evaluators(recipe.evaluate)
        check_optimizer(recipe.train.optimizer)
        check_adversary(model, recipe.train)
        recipe = resolved(recipe, model, objective, evaluators)
        if resume:
            if Recipe.read(place.recipe) != recipe:
                raise RunError(
                    f"{place.recipe}: differs from the recipe given, and a run goes on only as it "
                    "began; leave the changes out, or begin again with --overwrite"
                )
            if place.finished:
                return load(place.path)
        parts = training_parts(
            recipe.data, model, recipe.train.seed, data, test, columns_read(evaluators)
        )
        if resume:
            check_rows(place, parts, "begin again with --overwrite")
        examples = with_variants(parts.examples["train"], model, parts.items)
        objective.begin(torch.from_numpy(examples.distinct_groups()), model.dim)
        job = _Job(recipe, model, objective, evaluators, parts, place, keeper, console)
        return _train(job, resume, allow_rejected)


@dataclass(frozen=True)
class _Job:
    """All that a training is made of. ``keeper`` keeps checkpoints, and the time they took."""

    recipe: Recipe
    model: Model
    loss: WeightedSum
    evaluators: dict[str, Evaluator]
    parts: Parts
    place: RunFolder
    keeper: KeepCheckpoints
    console: Console

    @property
    def watched(self) -> Evaluator:
        """The evaluator whose primary metric says which weights are kept."""
        return next(iter(self.evaluators.values()))


def _train(job: _Job, resume: bool, allow_rejected: bool) -> Run:
    recipe, model, parts, place, console = (
        job.recipe, job.model, job.parts, job.place, job.console
    )  # fmt: skip
    _give_weights(model, parts, place, resume)
    notes = check_layers(model, recipe.train)
    model.to(pick_device())  # where frozen encoders run before training begins
    introduce(model, parts, recipe.train, console)
    digest = parts.digest()
    main = processes.is_main()
    with processes.main_first(), tempfile.TemporaryDirectory() as scratch:
        rejected = place.rejected if main else Path(scratch) / place.rejected.name
        prepare_items(parts, model, rejected, allow_rejected, console)
    for note in (*parts.notes, *notes):
        console.print(note, style="dim", highlight=False, soft_wrap=True)

    share = (processes.rank(), processes.count())
    examples = with_variants(parts.examples["train"], model, parts.items)
    sampler = build_sampler(
        recipe.train,
        examples,
        share,
        lambda: row_lengths(examples, model.columns, parts.items, model.encoders),
    )

    if main and not resume:
        place.clear()
        write_text(place.data, json.dumps({"digest": digest}))
        write_text(place.recipe, recipe.to_yaml())  # from here on there is a run to resume
    if main and not place.start.is_dir():
        # What fit learns need not be the same a second time, nor its source still be there.
        model.save(place.start)
    state = _optimise(job, examples, sampler)
    if not main:
        processes.wait()
        return load(place.path)
    model.eval()
    calibration = calibrate(job.evaluators, embed_part(model, parts, "validation"))
    model.save(place.model)
    write_text(place.calibration, calibration.to_json())
    with items_bar(console, "evaluating") as progress:
        found = measure_parts(model, parts, job.evaluators, calibration, progress)
    run = Run(place, model, recipe, dict(found.metrics), calibration)
    run.metrics["training"] = facts(parts, model, state, job.keeper.seconds)
    watched = job.watched.primary
    report_run(place.report, run, parts, found, state.log_history, watched, place.rejected)
    # Last, since it marks the run as finished.
    write_text(place.metrics, json.dumps(run.metrics, indent=1))
    place.tidy()
    processes.wait()
    return run


def _last_checkpoint(place: RunFolder) -> Path | None:
    return processes.from_main(lambda: last_checkpoint(place.checkpoints))


def _optimise(job: _Job, examples: Examples, sampler: BatchSampler) -> transformers.TrainerState:
    """Train the model in place; returns what the trainer did."""
    settings, model, parts, watched = job.recipe.train, job.model, job.parts, job.watched

    def validate() -> dict[str, float]:
        metrics = watched.evaluate(embed_part(model, parts, "validation"), None).metrics
        return {watched.primary: metrics[watched.primary]}

    adversary = Adversary(model, settings.adversarial) if settings.adversarial else None
    progress = ShowProgress(job.console, watched.primary, settings.batch_size)
    checkpoint = _last_checkpoint(job.place)
    callbacks: list[transformers.TrainerCallback] = [job.keeper, progress, KeepPace()]
    if settings.patience is not None:
        callbacks.append(transformers.EarlyStoppingCallback(settings.patience))
    trainer = Trainer(
        Objective(model, job.loss, adversary),
        training_arguments(
            settings, job.place.checkpoints, len(sampler), watched.primary, resumed=bool(checkpoint)
        ),
        Collator(
            examples,
            model.columns,
            parts.items,
            model.encoders,
            settings.chunk,
            whole=adversary is not None,
            draws=draws_of(job.recipe.data, examples, settings.seed),
        ),
        sampler,
        validate,
        fast=not settings.compile,
        callbacks=callbacks,
    )
    trainer.remove_callback(transformers.PrinterCallback)
    if not processes.is_main():
        transformers.set_seed(settings.seed + processes.rank())  # dropout of its own
    if not (checkpoint and trainer.take_finished(checkpoint)):
        with progress, equipped(model, settings):
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    conclude(trainer.state, watched.primary, job.console)
    return trainer.state


def _give_weights(model: Model, parts: Parts, place: RunFolder, resume: bool) -> None:
    """Restore what the run began with, or fit the towers.

    Of several processes the first one fits, for what is learnt need not be the same twice, and
    the others take it over by way of the run's folder.
    """
    if processes.from_main(lambda: resume and place.start.is_dir()):
        model.restore(place.start)
    elif processes.count() == 1:
        _fit(model, parts)
    else:
        if processes.is_main():
            _fit(model, parts)
            model.save(place.fitted)
        processes.wait()
        if not processes.is_main():
            model.restore(place.fitted)
        processes.wait()
        if processes.is_main():
            shutil.rmtree(place.fitted)


def _fit(model: Model, parts: Parts) -> None:
    """Let towers without weights learn what they need from the training items alone."""
    train, numbering = parts.examples["train"], model.numbering
    items = {}
    for name in model.towers:
        used = train.distinct_items(c for c, t in numbering.items() if t == model.leader(name))
        items[name] = [parts.items[name].values[number] for number in used]
    fit_towers(model, items)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise RecipeError(
            "towers: nothing is left to train, since every encoder is frozen and has no head; "
            "set head: linear, or leave one freeze out"
        )
