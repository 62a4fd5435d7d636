"""What commands share: where they print, and how they read a key=value."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from msiam.errors import DataError, RecipeError
from msiam.evaluation.metrics import is_count, labelled
from msiam.progress import SHOWN

progress = SHOWN
output = Console(markup=False, emoji=False, highlight=False)


def follows() -> bool:
    """Whether torchrun started this process, and it is not the first one, which prints."""
    return int(os.environ.get("WORLD_SIZE", 1)) > 1 and os.environ.get("RANK", "0") != "0"


def print_json(value: Any) -> None:
    """A result for scripts: JSON on stdout, and nothing else there.

    As over HTTP, a number that JSON has not is null, bytes are base64, and a date is as ISO 8601
    has it.
    """
    import pydantic_core  # not above: --help has no use for it

    text = pydantic_core.to_json(
        value, indent=1, inf_nan_mode="null", bytes_mode="base64", fallback=str
    )
    print(text.decode())


def print_metrics(metrics: Mapping[str, Mapping[str, float]]) -> None:
    """Figures by evaluator, chance and the ends of the confidence interval beside them."""
    for evaluator, figures in metrics.items():
        if evaluator == "training":
            continue
        table = Table(title=evaluator, title_justify="left", box=None, pad_edge=False)
        for heading in ("figure", "value", "95 % interval", "by chance"):
            table.add_column(heading, justify="left" if heading == "figure" else "right")
        for name, value in figures.items():
            if name.rpartition("/")[2] in ("low", "high") or "chance" in name.split("/"):
                continue
            low, high = figures.get(f"{name}/low"), figures.get(f"{name}/high")
            side, _, last = name.rpartition("/")
            chance = figures.get("/".join(filter(None, (side, "chance", last))))
            interval = f"{low:.3f} to {high:.3f}" if low is not None and high is not None else ""
            shown = f"{value:,.0f}" if is_count(name) else f"{value:.4f}"
            by_chance = "" if chance is None else f"{chance:.4f}"
            table.add_row(labelled(name), shown, interval, by_chance)
        output.print(table)
        output.print()


def pairs(text: str, option: str, example: str) -> dict[str, str]:
    """``a=b,c=d`` as a dict.

    Raises:
        RecipeError: a part without ``=``.
    """
    found = {}
    for part in text.split(","):
        key, equals, value = part.strip().partition("=")
        if not (key and equals and value):
            raise RecipeError(f"{option} {text}: write it as name=value, for example {example}")
        found[key] = value
    return found


def only_column(columns: Mapping[str, str], found: Iterable[str], table: str) -> str:
    """The one column of the model that a table has.

    Raises:
        DataError: it has none of them, or several.
    """
    fitting = [column for column in columns if column in set(found)]
    if len(fitting) != 1:
        raise DataError(
            f"{table}: has {' and '.join(fitting) or 'no column'} of the model's columns "
            f"({', '.join(columns)}); name one with --column"
        )
    return fitting[0]
