"""Train every recipe in configs/ and write the README's table from the run folders.

    python benchmarks/recipes.py [NAME ...] [--report-only]

A recipe is trained where its run is missing, unfinished or of another recipe than the one in
configs/. A row of the table stays as it is where this machine has no run for a new one. Exits with
1 where a recipe that was asked for cannot be trained or misses its figure, or none has a run.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msiam
from msiam.errors import MsiamError, one_of
from msiam.registry import registry
from msiam.registry.options import parse_options

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
BEGIN, END = "<!-- results: make recipes writes them -->\n", "<!-- end of results -->\n"
HEADING = """| recipe | figure | measured | 95 % interval | must reach | baseline | minutes |
|---|---|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Figure:
    """What a recipe is judged by. ``goal`` is None where its figure is only reported.

    Of a ``metric`` with wildcards (``*/recall@1``) the lowest of those that fit counts. ``also`` is
    a second figure, with a row of its own. An error rate (``eer``) is to be at most its goal.
    """

    evaluator: str
    metric: str
    goal: float | None
    baseline: str
    also: Figure | None = None

    @property
    def is_error(self) -> bool:
        return self.metric.endswith("eer")

    def reached(self, value: float) -> bool:
        if self.goal is None:
            return True
        return value <= self.goal if self.is_error else value >= self.goal


BM25 = "BM25 0.710, MiniLM untrained 0.697"
MINILM = "MiniLM untrained 0.863"
FIGURES = {
    "quora": Figure("verification", "auc", 0.85, "0.5 by chance"),
    "quora_scratch": Figure("verification", "auc", None, "0.5 by chance"),
    "quora_transformer": Figure("verification", "auc", 0.92, MINILM),
    "quora_transformer_scratch": Figure("verification", "auc", None, MINILM),
    "title_article": Figure("retrieval", "title_to_body/recall@1", 0.80, BM25),
    "title_article_scratch": Figure("retrieval", "title_to_body/recall@1", None, BM25),
    "text_image": Figure("retrieval", "caption_to_image/recall@10", 0.50, "0.010 by chance"),
    "text_image_scratch": Figure(
        "retrieval", "caption_to_image/recall@10", None, "0.010 by chance"
    ),
    "offtopic": Figure(
        "verification",
        "hard/auc",
        0.85,
        "BM25 0.706",
        Figure("verification", "random/auc", 0.97, "BM25 0.985"),
    ),
    "multilingual_emoji": Figure("retrieval", "??_to_??/recall@1", 0.60, "0.003 by chance"),
    "robust": Figure(
        "adversarial",
        "pgd_linf/accuracy@4",
        0.30,
        "undefended 0.020",
        Figure("verification", "accuracy", 0.925, "undefended 0.955"),
    ),
    "robust_undefended": Figure("adversarial", "pgd_linf/accuracy@4", None, "0.5 by chance"),
    "faces": Figure(
        "verification",
        "eer",
        0.05,
        "0.5 by chance",
        Figure("retrieval", "image_to_image/recall@1", 0.95, "0.091 by chance"),
    ),
    "signatures": Figure(
        "verification",
        "eer",
        0.18,
        "0.5 by chance",
        Figure("verification", "5_references/eer", 0.12, "0.5 by chance"),
    ),
    "triplet_images": Figure(
        "retrieval",
        "image_to_image/recall@1",
        0.75,
        "0.091 by chance",
        Figure("retrieval", "unseen/image_to_image/recall@1", None, "0.156 by chance"),
    ),
    "quadruplet_images": Figure(
        "retrieval",
        "image_to_image/recall@1",
        0.75,
        "0.091 by chance",
        Figure("retrieval", "unseen/image_to_image/recall@1", None, "0.156 by chance"),
    ),
    "text_image_fashion": Figure("retrieval", "*_to_*/recall@10", 0.85, "0.010 by chance"),
    "unsupervised_moco": Figure(
        "knn", "accuracy", 0.64, "untrained 0.444, raw pixels 0.635 (0.618 in grey)"
    ),
    "supervised_tenth": Figure("knn", "accuracy", None, "0.221 by chance"),
    "semi_supervised": Figure("knn", "accuracy", 0.67, "supervised_tenth 0.638"),
    "omniglot": Figure("few_shot", "accuracy", 0.95, "raw pixels 0.240, people 0.955"),
    # What is asked of it is in benchmarks/tracking.py: whole sequences, beside KCF.
    "siamfc": Figure("found", "found", None, "0.045 by chance"),
}


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


def row(name: str, metrics: Mapping[str, Mapping[str, float]]) -> tuple[str, bool]:
    """The table's lines, one a figure, and whether all of them are reached."""
    figure: Figure | None = FIGURES[name]
    lines = []
    while figure is not None:
        lines.append(_line(name, figure, metrics))
        figure = figure.also
    return "\n".join(line for line, _ in lines), all(reached for _, reached in lines)


def _line(
    name: str, figure: Figure, metrics: Mapping[str, Mapping[str, float]]
) -> tuple[str, bool]:
    found = metrics[figure.evaluator]
    metric = min(fnmatch.filter(found, figure.metric), key=lambda one: found[one])
    value = found[metric]
    low, high = found.get(f"{metric}/low"), found.get(f"{metric}/high")
    interval = f"{low:.3f} to {high:.3f}" if low is not None else ""
    reached = figure.reached(value)
    goal = "reported"
    if figure.goal is not None:
        most = "at most " if figure.is_error else ""
        goal = f"{most}{figure.goal:.2f}{'' if reached else ' (missed)'}"
    minutes = metrics["training"]["seconds"] / 60
    cells = (
        f"[{name}](configs/{name}.yaml)",
        metric if metric == figure.metric else f"{metric}, the lowest of {figure.metric}",
        f"{value:.3f}",
        interval,
        goal,
        figure.baseline,
        f"{minutes:.1f}",
    )
    return f"| {' | '.join(cells)} |", reached


def with_rows(readme: str, rows: Mapping[str, str]) -> str:
    """The README with these rows in its table; a recipe that has none here keeps its old one."""
    before, _, rest = readme.partition(BEGIN)
    table, _, after = rest.partition(END)
    old: dict[str, str] = {}
    for match in re.finditer(r"^\| \[(\w+)\].*$", table, re.MULTILINE):
        old[match[1]] = f"{old[match[1]]}\n{match[0]}" if match[1] in old else match[0]
    known = {**old, **rows}
    lines = "".join(f"{known[name]}\n" for name in FIGURES if name in known)
    return before + BEGIN + HEADING + lines + END + after


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
    readme = with_rows(
        README.read_text(encoding="utf-8"), {name: line for name, (line, _) in rows.items()}
    )
    README.write_text(readme, encoding="utf-8")
    print(HEADING + "".join(f"{line}\n" for line, _ in rows.values()))
    for name in failed:
        print(f"{name}: could not be trained; what is wrong is said above")
    judged = [rows[name][1] for name in asked if name in rows]
    return 0 if judged and all(judged) and not failed else 1


if __name__ == "__main__":
    raise SystemExit(main())
