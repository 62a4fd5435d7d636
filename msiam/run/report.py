"""A run's report: what was run, its figures, its most confident mistakes, sample searches."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from msiam.evaluation.embedding_map import embedding_map
from msiam.evaluation.findings import (
    grids,
    most_confident_mistakes,
    most_confident_wrong_answers,
    sample_searches,
)
from msiam.evaluation.report import ReportData, write_report
from msiam.evaluation.sample_pairs import sample_pairs
from msiam.evaluation.verdict import Verdict

if TYPE_CHECKING:
    from msiam.data.parts import Parts
    from msiam.evaluation.measure import Measured
    from msiam.run.run import Run


def report_run(
    path: Path,
    run: Run,
    parts: Parts,
    found: Measured,
    history: list[dict[str, Any]],
    watched: str,
    rejected: Path,
) -> None:
    """Write the report of a run, measured on its held-out part.

    ``rejected`` is the file that lists the rows set aside.
    """
    assert run.recipe is not None
    values = {name: items.values for name, items in parts.items.items()}
    report = ReportData(
        title=run.recipe.name,
        recipe_yaml=run.recipe.to_yaml(),
        facts=_facts(run, parts),
        headlines=[result.headline for result in found.results.values() if result.headline],
        metrics=found.metrics,
        curves={name: result.curves for name, result in found.results.items()},
        history=history,
        watched=watched,
        notes=[*parts.notes, *_set_aside(parts, rejected)],
        mistakes=_mistakes(run, found, values, parts.classes),
        pairs=_pairs(run, found, values),
        searches=sample_searches(found.embedded, values),
        shown={
            heading: cards
            for result in found.results.values()
            for heading, cards in result.shown.items()
        },
        grids=grids(
            [one for result in found.results.values() for one in result.decisions],
            found.embedded,
            values,
        ),
        map=embedding_map(found.embedded, values, parts.classes),
    )
    write_report(path, report)


def _facts(run: Run, parts: Parts) -> dict[str, str]:
    facts = {}
    for name in run.model.towers:
        tower = run.model.tower(name)
        columns = [c for c, t in run.model.columns.items() if t == name]
        facts[f"tower {name}"] = (
            f"{tower.summary}, {tower.parameter_count():,} parameters, "
            f"reads {' and '.join(columns)}"
        )
    facts["rows"] = ", ".join(f"{len(rows):,} {part}" for part, rows in parts.examples.items())
    if parts.classes:
        counts = {part: len(rows.distinct_classes()) for part, rows in parts.examples.items()}
        facts["classes"] = ", ".join(f"{count:,} {part}" for part, count in counts.items())
    if made := run.metrics.get("training"):
        facts["training"] = (
            f"{made['steps']:,} steps in {made['seconds'] / 60:,.1f} minutes; the weights of step "
            f"{made['kept_step']:,} were kept, the best of them on validation"
        )
    return facts


def _set_aside(parts: Parts, listed: Path) -> list[str]:
    if not parts.rejected:
        return []
    rows = len({(entry.table, entry.row) for entry in parts.rejected})
    return [f"{rows:,} rows were set aside, since they cannot be read: see {listed.name}."]


def _pairs(run: Run, found: Measured, values: dict[str, list[Any]]) -> list[Verdict]:
    """Decisions on pairs, where it is these that are measured."""
    if "verification" not in found.results or run.calibration is None:
        return []
    return sample_pairs(found.embedded, run.calibration, values, words=_words(run))


def _words(run: Run) -> tuple[str, str]:
    assert run.recipe is not None
    return run.recipe.decision.same, run.recipe.decision.different


def _mistakes(
    run: Run, found: Measured, values: dict[str, list[Any]], classes: list[str]
) -> list[Verdict]:
    """Wrong decisions where pairs or items are labelled, or made by swapping; else answers."""
    examples = found.embedded.examples
    labelled = examples.same is not None or examples.claims is not None
    decided = labelled or found.embedded.negatives
    if decided and run.calibration is not None:
        return most_confident_mistakes(found.embedded, run.calibration, values, words=_words(run))
    return most_confident_wrong_answers(found.embedded, values, classes=classes)
