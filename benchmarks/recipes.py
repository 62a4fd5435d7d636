"""Train every recipe in configs/ and write docs/results.md from the run folders.

    python benchmarks/recipes.py [NAME ...] [--report-only]

A recipe is trained where its run is missing, unfinished or of another recipe than the one in
configs/. A row of the table stays as it is where this machine has no run for a new one; a recipe
that never had one is said to be untrained. Exits with 1 where a recipe that was asked for cannot be
trained or misses its figure, or none has a run.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from figures import FIGURES, NOTES, Figure

import msiam
from msiam.errors import MsiamError, one_of
from msiam.registry import registry
from msiam.registry.options import parse_options

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "results.md"
BEGIN, END = "<!-- make recipes writes this -->\n", "<!-- end -->\n"
HEADING = (
    "| recipe | figure | measured | 95 % interval | must reach | baseline | elsewhere | minutes |\n"
    "|---|---|---|---|---|---|---|---|\n"
)
MISSED, UNTRAINED = "(missed)", "not trained yet"
BELOW = "\n## Missed, or not trained yet: what was tried\n\n"


def resolved(recipe: msiam.Recipe) -> dict[str, Any]:
    """A recipe with every default said, so that leaving one out makes no difference."""

    def options(kind: str, term: Any) -> dict[str, Any]:
        return parse_options(registry().find(kind, term.name).load(), term.options, "").model_dump()

    return {
        **recipe.model_dump(),
        "towers": msiam.Model(recipe.towers, recipe.columns).describe()["towers"],
        "loss": [(term.name, term.weight, options("loss", term)) for term in recipe.loss],
        "evaluate": [(term.name, options("evaluator", term)) for term in recipe.evaluate],
    }


def is_of(run: Path, config: Path) -> bool:
    """Whether a run was begun with the recipe as it is now. One that cannot be read was not."""
    try:
        begun, wanted = (msiam.Recipe.read(path) for path in (run / "recipe.yaml", config))
        return resolved(begun) == resolved(wanted)
    except MsiamError:
        return False


def finished(name: str) -> bool:
    """Whether there is a whole run of the recipe."""
    run = ROOT / "runs" / name
    return (run / "metrics.json").is_file() and is_of(run, ROOT / "configs" / f"{name}.yaml")


def train(name: str) -> bool:
    """Train a recipe as a user would, unless its run is there; tells whether it is then."""
    if finished(name):
        return True
    run = ROOT / "runs" / name
    command = [str(Path(sys.executable).with_name("msiam")), "train", f"configs/{name}.yaml"]
    if (run / "recipe.yaml").is_file():
        same = is_of(run, ROOT / "configs" / f"{name}.yaml")
        command.append("--resume" if same else "--overwrite")
    return subprocess.run(command, cwd=ROOT).returncode == 0


def row(name: str, metrics: Mapping[str, Mapping[str, float]] | None) -> tuple[str, bool]:
    """The table's lines, one a figure, and whether all of them are reached."""
    figure: Figure | None = FIGURES[name]
    lines = []
    while figure is not None:
        lines.append(_line(name, figure, metrics))
        figure = figure.also
    return "\n".join(line for line, _ in lines), all(reached for _, reached in lines)


def _line(
    name: str, figure: Figure, metrics: Mapping[str, Mapping[str, float]] | None
) -> tuple[str, bool]:
    label, measured, interval, minutes, reached = figure.metric, UNTRAINED, "", "", True
    if metrics is not None:
        found = metrics[figure.evaluator]
        fitting = fnmatch.filter(found, figure.metric)
        of_model = [one for one in fitting if "chance" not in one.split("/")]
        metric = min(of_model, key=lambda one: found[one])
        if metric != figure.metric:
            label = f"{metric}, the lowest of {figure.metric}"
        low, high = found.get(f"{metric}/low"), found.get(f"{metric}/high")
        measured, reached = f"{found[metric]:.3f}", figure.reached(found[metric])
        interval = f"{low:.3f} to {high:.3f}" if low is not None else ""
        minutes = f"{metrics['training']['seconds'] / 60:.1f}"
    goal = "reported"
    if figure.goal is not None:
        most = "at most " if figure.is_error else ""
        goal = f"{most}{figure.goal:.2f}{'' if reached else f' {MISSED}'}"
    cells = (
        f"[{name}](../configs/{name}.yaml)",
        label,
        measured,
        interval,
        goal,
        figure.baseline,
        figure.elsewhere,
        minutes,
    )
    return f"| {' | '.join(cells)} |", reached


def with_rows(page: str, rows: Mapping[str, str]) -> str:
    """The page with these rows in its table; a recipe that has none here keeps its old one.

    Below the table stands what is known where a figure is missed, or there is none yet.
    """
    before, _, rest = page.partition(BEGIN)
    table, _, after = rest.partition(END)
    known: dict[str, str] = {}
    for match in re.finditer(r"^\| \[(\w+)\].*$", table, re.MULTILINE):
        known[match[1]] = f"{known[match[1]]}\n{match[0]}" if match[1] in known else match[0]
    lines = {}
    for name in FIGURES:
        line = rows.get(name, known.get(name, UNTRAINED))
        lines[name] = row(name, None)[0] if UNTRAINED in line else line
    unmet = [name for name, line in lines.items() if MISSED in line or UNTRAINED in line]
    parts = [before, BEGIN, HEADING, *(f"{line}\n" for line in lines.values())]
    if notes := [f"- **{name}**: {NOTES[name]}\n" for name in unmet if name in NOTES]:
        parts += [BELOW, *notes]
    return "".join([*parts, END, after])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="recipes; all by default")
    parser.add_argument("--report-only", action="store_true", help="only write the table")
    arguments = parser.parse_args()
    for name in arguments.names:  # argparse's own choices refuse an empty list
        if name not in FIGURES:
            parser.error(f"no recipe '{name}'; {one_of(name, FIGURES)}")
    asked = arguments.names or list(FIGURES)
    failed = [] if arguments.report_only else [name for name in asked if not train(name)]
    rows = {
        name: row(name, json.loads((ROOT / "runs" / name / "metrics.json").read_text()))
        for name in FIGURES
        if finished(name)
    }
    page = RESULTS.read_text(encoding="utf-8")
    lines = {name: line for name, (line, _) in rows.items()}
    RESULTS.write_text(with_rows(page, lines), encoding="utf-8")
    print(HEADING + "".join(f"{line}\n" for line, _ in rows.values()))
    for name in failed:
        print(f"{name}: could not be trained; what is wrong is said above")
    judged = [rows[name][1] for name in asked if name in rows]
    return 0 if judged and all(judged) and not failed else 1


if __name__ == "__main__":
    raise SystemExit(main())
