"""A trained model on a part of the data: embed it, run the recipe's evaluators over it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from msiam.data.parts import Parts
from msiam.data.shares import UNSEEN
from msiam.errors import RecipeError
from msiam.evaluation.calibration import Calibration
from msiam.evaluation.evaluator import Embedded, Evaluator, Result
from msiam.evaluation.pairs import pair_scores
from msiam.evaluation.references import reference_scores
from msiam.registry import registry
from msiam.registry.options import Term, parse_options
from msiam.towers.embedding import embed_features
from msiam.towers.model import Model


@dataclass
class Measured:
    """A part with its embeddings, and what each evaluator found in it."""

    embedded: Embedded
    results: dict[str, Result] = field(default_factory=dict)

    @property
    def metrics(self) -> dict[str, dict[str, float]]:
        return {name: result.metrics for name, result in self.results.items()}


def build_evaluators(terms: Sequence[Term]) -> dict[str, Evaluator]:
    """A recipe's evaluators by name; the first one's primary metric is what training watches.

    Raises:
        PluginError: no such evaluator.
        RecipeError: an unknown option; one evaluator twice, whose figures have one place.
    """
    found: dict[str, Evaluator] = {}
    for term in terms:
        if term.name in found:
            raise RecipeError(
                f"evaluate: found {term.name} twice, and its figures have one place in a run; "
                "give it once"
            )
        cls = registry().find("evaluator", term.name, "evaluate.name").load()
        found[term.name] = cls(parse_options(cls, term.options, f"evaluate ({term.name})"))
    return found


def columns_read(evaluators: dict[str, Evaluator]) -> set[str]:
    """The tables' columns that evaluators need as attributes of the rows."""
    return {column for evaluator in evaluators.values() for column in evaluator.reads}


def embed_part(
    model: Model, parts: Parts, part: str, progress: Callable[[int], Any] | None = None
) -> Embedded:
    """Embed the items of one part, each once. Items of other parts stay zero."""
    examples = parts.examples[part]
    vectors = {}
    for name, items in parts.items.items():
        tower = model.tower(name)
        columns = [c for c, t in model.columns.items() if t == name]
        used = examples.distinct_items(columns)
        vectors[name] = np.zeros((len(items.values), tower.dim), dtype=np.float32)
        inputs = [items.inputs[number] for number in used]
        vectors[name][used] = embed_features(tower, inputs, progress=progress)
    values = {name: items.values for name, items in parts.items.items()}
    features = {name: items.features for name, items in parts.items.items()}
    return Embedded(examples, vectors, model.columns, values, parts.negatives, features, model)


def calibrate(evaluators: dict[str, Evaluator], embedded: Embedded) -> Calibration:
    """The thresholds and probabilities for pairs of a part, and for as many references as asked."""
    counts = sorted({one.references for one in evaluators.values() if one.references is not None})
    several = {n: Calibration.fit(*reference_scores(embedded, n)[:2]) for n in counts}
    return replace(Calibration.fit(*pair_scores(embedded)), references=several)


def measure(
    evaluators: dict[str, Evaluator], embedded: Embedded, calibration: Calibration | None
) -> Measured:
    """Run every evaluator over an embedded part."""
    found = Measured(embedded)
    for name, evaluator in evaluators.items():
        found.results[name] = evaluator.evaluate(embedded, calibration)
    return found


def measure_parts(
    model: Model,
    parts: Parts,
    evaluators: dict[str, Evaluator],
    calibration: Calibration | None,
    progress: Callable[[int], Any] | None = None,
) -> Measured:
    """Run every evaluator over what is held out.

    Where classes are held out beside (``data.split.unseen``), the figures of these stand with the
    others, under ``unseen/``.
    """
    found = measure(evaluators, embed_part(model, parts, parts.held_out, progress), calibration)
    if UNSEEN in parts.examples:
        beside = measure(evaluators, embed_part(model, parts, UNSEEN, progress), calibration)
        for name, result in beside.results.items():
            found.results[name].metrics |= {f"{UNSEEN}/{k}": v for k, v in result.metrics.items()}
            found.results[name].headline += f" Of classes never seen in training: {result.headline}"
    return found
