"""report.html: what a run came to, in one file that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from msiam.evaluation.directions import MANY
from msiam.evaluation.embedding_map import EmbeddingMap
from msiam.evaluation.findings import Grid, Search
from msiam.evaluation.metrics import is_count, labelled
from msiam.evaluation.verdict import Verdict
from msiam.paths import write_text

TEMPLATE = "report.html"
ARROW = " → "  # in the name of a direction
EVERYWHERE = "all directions"


@dataclass
class ReportData:
    """What a report shows. Everything but the title may be left out.

    Attributes:
        title: the name of the run.
        recipe_yaml: the recipe as resolved.
        facts: a word → its value, what was run: towers, rows, seconds, device.
        headlines: the main figures beside chance, in plain sentences (``Result.headline``).
        metrics: evaluator → its flat metrics (``Result.metrics``).
        curves: evaluator → what it drew (``Result.curves``).
        history: the training log (``Trainer.state.log_history``).
        watched: the validation metric in it that early stopping watched.
        notes: what was set aside (rejected rows, rows that the split took), a sentence each.
        mistakes: the most confident ones.
        pairs: samples, with the decision.
        searches: samples.
        shown: heading → what else evaluators show (``Result.shown``).
        grids: decisions among several classes, samples.
        map: where held-out items lie among each other.
    """

    title: str
    recipe_yaml: str = ""
    facts: dict[str, str] = field(default_factory=dict)
    headlines: list[str] = field(default_factory=list)
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    curves: dict[str, dict[str, Any]] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    watched: str = ""
    notes: list[str] = field(default_factory=list)
    mistakes: list[Verdict] = field(default_factory=list)
    pairs: list[Verdict] = field(default_factory=list)
    searches: list[Search] = field(default_factory=list)
    shown: dict[str, list[Verdict]] = field(default_factory=dict)
    grids: list[Grid] = field(default_factory=list)
    map: EmbeddingMap | None = None


class Line(NamedTuple):
    """A metric in the report's table, each cell as it is printed."""

    name: str
    value: str
    interval: str
    chance: str


def write_report(path: str | Path, report: ReportData) -> Path:
    """Write the report, whole or not at all; returns its path.

    Raises:
        RunError: the disk is full.
    """
    path = Path(path)
    write_text(path, render(report))
    return path


def render(report: ReportData) -> str:
    """The report as one HTML document, with no script and no link to anything outside."""
    import jinja2

    from msiam.evaluation import map_plot, pictures, plots

    tables = {name: table(metrics) for name, metrics in report.metrics.items()}
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template(TEMPLATE).render(
        report=report,
        show=pictures.show,
        show_words=pictures.show_words,
        is_picture=pictures.is_picture,
        cards={
            "Sample pairs": report.pairs,
            "Most confident mistakes": report.mistakes,
            **report.shown,
        },
        drawn_map=map_plot.draw_map(report.map) if report.map else "",
        training=plots.draw_history(report.history, report.watched),
        drawings={name: plots.draw(curves) for name, curves in report.curves.items()},
        tables=tables,
        directions={name: sum(ARROW in one for one in lines) for name, lines in tables.items()},
        many=MANY,
    )


def table(metrics: Mapping[str, float]) -> dict[str, list[Line]]:
    """Direction → its metrics, each with its interval and chance beside it.

    Metrics of no direction come last, under "" if there are no others.
    """
    parts: dict[str, list[Line]] = {}
    for direction, name in _names(metrics):
        prefix = f"{direction}/" if direction else ""
        low, high = (metrics.get(f"{prefix}{name}/{end}") for end in ("low", "high"))
        chance = metrics.get(f"{prefix}chance/{name}")
        line = Line(
            labelled(name),
            number(metrics[prefix + name], count=is_count(name)),
            "" if low is None or high is None else f"{number(low)}–{number(high)}",
            "" if chance is None else number(chance),
        )
        parts.setdefault(direction.replace("_to_", ARROW), []).append(line)
    for name in [name for name in parts if ARROW not in name]:
        # What there is of one direction needs not be said of all.
        within = [one for one in parts if ARROW in one and one.rpartition("/")[0] == name]
        if len(within) == 1:
            parts[name] = [line for line in parts[name] if line not in parts[within[0]]]
    everywhere = parts.pop("", [])
    parts = {name: lines for name, lines in parts.items() if lines}
    if everywhere:
        searched = any(ARROW in name for name in parts)
        parts[EVERYWHERE if searched else "in all" if parts else ""] = everywhere
    return parts


def _names(metrics: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    """The direction and the name of each metric that has a line of its own."""
    for key in metrics:
        *direction, name = key.split("/")
        if name not in ("low", "high") and "chance" not in direction:
            yield "/".join(direction), name


def number(value: float, count: bool = False) -> str:
    """Counts and large values as whole as they are, shares with three decimals or two digits."""
    if count or abs(value) >= 2:
        return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"
    return f"{value:.3f}" if abs(value) >= 0.01 or value == 0 else f"{value:.2g}"
