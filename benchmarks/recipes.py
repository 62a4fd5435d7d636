"""Train every recipe in configs/ and write the README's table from the run folders.

    python benchmarks/recipes.py [NAME ...] [--report-only]

A recipe that was trained already is not trained again; remove its folder in runs/ for that.
Exits with 1 where a recipe misses its figure.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
BEGIN, END = "<!-- results: make recipes writes them -->\n", "<!-- end of results -->\n"
HEADING = """| recipe | figure | measured | 95 % interval | must reach | baseline | minutes |
|---|---|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Figure:
    """What a recipe is judged by. ``goal`` is None where its figure is only reported."""

    evaluator: str
    metric: str
    goal: float | None
    baseline: str


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
}


def train(name: str) -> None:
    """Train a recipe as a user would, unless its run is there."""
    run = ROOT / "runs" / name
    if not (run / "metrics.json").is_file():
        again = ["--resume"] if (run / "recipe.yaml").is_file() else []
        command = [Path(sys.executable).with_name("msiam"), "train", f"configs/{name}.yaml", *again]
        subprocess.run(command, cwd=ROOT, check=True)


def row(name: str, figure: Figure) -> tuple[str, bool]:
    """The table's line, and whether the figure is reached."""
    metrics = json.loads((ROOT / "runs" / name / "metrics.json").read_text())
    found = metrics[figure.evaluator]
    value = found[figure.metric]
    low, high = found.get(f"{figure.metric}/low"), found.get(f"{figure.metric}/high")
    interval = f"{low:.3f} to {high:.3f}" if low is not None else ""
    reached = figure.goal is None or value >= figure.goal
    goal = (
        "reported" if figure.goal is None else f"{figure.goal:.2f}{'' if reached else ' (missed)'}"
    )
    minutes = metrics["training"]["seconds"] / 60
    cells = (
        f"[{name}](configs/{name}.yaml)",
        figure.metric,
        f"{value:.3f}",
        interval,
        goal,
        figure.baseline,
        f"{minutes:.1f}",
    )
    return f"| {' | '.join(cells)} |", reached


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="recipes; all by default")
    parser.add_argument("--report-only", action="store_true", help="only write the table")
    arguments = parser.parse_args()
    for name in arguments.names or FIGURES:
        if not arguments.report_only:
            train(name)
    trained = [n for n in FIGURES if (ROOT / "runs" / n / "metrics.json").is_file()]
    rows = {name: row(name, FIGURES[name]) for name in trained}
    table = HEADING + "".join(f"{line}\n" for line, _ in rows.values())
    before, _, rest = README.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    README.write_text(before + BEGIN + table + END + after, encoding="utf-8")
    print(table)
    return 0 if all(reached for _, reached in rows.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
