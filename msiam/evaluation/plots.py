"""The report's drawings: inline SVG whose colours are the page's, in light and in dark.

Shapes of the curves that an evaluator may give:

- ``roc``: {"far": [...], "tar": [...]}
- ``histogram``: {"edges": [bins + 1], "same": [bins], "different": [bins], "threshold": or null}
- ``scatter``: {"score": [...], "similarity": [...]}
- ``recall``: {a direction: {"k": [...], "recall": [...], "low": [...], "high": [...],
  "chance": [...]}}
- ``survival``: {an attack: {"size": [...], "accuracy": [...]}}
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from msiam.evaluation.directions import MANY

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.axes import Axes

# matplotlib draws in these colours; in the SVG each becomes a variable of the page's style sheet.
INK, MUTED, LINE, FIRST, SECOND = "#010101", "#020202", "#030303", "#040404", "#050505"
VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    LINE: "var(--line)",
    FIRST: "var(--first)",
    SECOND: "var(--second)",
}
STYLE: dict[Any, Any] = {  # matplotlib types its keys as literals
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 9.5,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "svg.fonttype": "none",
    "svg.hashsalt": "msiam",
    "text.color": INK,
    "xtick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.color": LINE,
    "ytick.labelcolor": MUTED,
}
SIZE = (4.3, 2.9)  # inches of 72 points: as wide as a phone, so that the text keeps its size


def draw(curves: Mapping[str, Any]) -> dict[str, Markup]:
    """Caption → drawing, of every curve that is known here."""
    drawings: dict[str, Markup] = {}
    if "roc" in curves:
        caption = "ROC: same pairs accepted against different pairs accepted"
        drawings[caption] = _figure(caption, _roc, curves["roc"])
    if "histogram" in curves:
        caption = "Scores of held-out pairs"
        drawings[caption] = _figure(caption, _histogram, curves["histogram"])
    if "scatter" in curves:
        caption = "Similarity against score"
        drawings[caption] = _figure(caption, _scatter, curves["scatter"])
    recalls = curves.get("recall", {})
    if len(recalls) > MANY:
        caption = "The right one comes first, by direction"
        size = SIZE[0], 0.5 + 0.2 * len(recalls)
        drawings[caption] = _figure(caption, _by_direction, recalls, size)
        recalls = {}
    for direction, bars in recalls.items():
        caption = f"{direction}: the right one is among the first k"
        drawings[caption] = _figure(caption, _recall, bars)
    for end, axis in AXES.items():
        some = {n: c for n, c in curves.get("survival", {}).items() if n.endswith(end)}
        if some:
            caption = f"Decisions that are still right, by the {axis}"
            drawings[caption] = _figure(caption, _survival, (axis, some))
    return drawings


#: How attacks end that change as much, and how that is measured.
AXES = {
    "linf": "largest change of a value",
    "l2": "length of the change",
    "s": "number of swaps",
}


def draw_history(history: Sequence[Mapping[str, Any]], watched: str = "") -> dict[str, Markup]:
    """Caption → drawing, of a log as ``transformers.Trainer`` keeps it (``log_history``).

    Args:
        history: records with ``epoch`` and any of ``loss``, ``eval_…``.
        watched: the validation metric to draw.
    """
    losses, metric = _series(history, "loss"), _series(history, f"eval_{watched}")
    drawings: dict[str, Markup] = {}
    if len(losses) > 1:
        drawings["Loss by epoch"] = _figure("Loss by epoch", _line, losses)
    if len(metric) > 1:
        caption = f"{watched} on validation, by epoch"
        drawings[caption] = _figure(caption, _watched, metric)
    return drawings


def _series(history: Sequence[Mapping[str, Any]], key: str) -> list[tuple[float, float]]:
    return [(entry["epoch"], entry[key]) for entry in history if key in entry and "epoch" in entry]


def _figure(
    caption: str,
    paint: Callable[[Axes, Any], None],
    data: Any,
    size: tuple[float, float] = SIZE,
) -> Markup:
    """One drawing as an <svg> element that takes its colours and its font from the page."""
    import matplotlib
    from markupsafe import Markup, escape
    from matplotlib.figure import Figure

    with matplotlib.rc_context({**STYLE, "svg.hashsalt": caption}):
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots()
        paint(axes, data)
        axes.tick_params(length=0, pad=5)
        axes.set_axisbelow(True)
        buffer = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    svg = buffer.getvalue()
    svg = svg[svg.index(">", svg.index("<svg")) + 1 :]
    svg = re.sub(
        r"<style.*?</style>| font-family: [^;]*;|(?<=<g) id=\"[^\"]*\"", "", svg, flags=re.S
    )
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, variable)
    width, height = (72 * inches for inches in size)
    head = f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(caption)}">'
    return Markup(head + svg)


def _rates(axes: Axes, which: Literal["both", "x", "y"]) -> None:
    """A share from 0 to 1, in percent, on a light grid."""
    chosen = {"x": (axes.xaxis,), "y": (axes.yaxis,), "both": (axes.xaxis, axes.yaxis)}
    for axis in chosen[which]:
        axis.set_ticks([0, 0.25, 0.5, 0.75, 1], ["0", "25", "50", "75", "100 %"])
    axes.grid(axis=which, color=LINE, linewidth=0.8)


def _roc(axes: Axes, roc: Mapping[str, Sequence[float]]) -> None:
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (2, 3)))
    axes.text(0.6, 0.54, "chance", color=MUTED)
    axes.plot(roc["far"], roc["tar"], color=FIRST, linewidth=2, solid_joinstyle="round")
    _rates(axes, "both")
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.02), xlabel="different pairs accepted")
    axes.set_ylabel("same pairs accepted")


def _histogram(axes: Axes, histogram: Mapping[str, Any]) -> None:
    edges = np.asarray(histogram["edges"])
    for name, colour in {"different": SECOND, "same": FIRST}.items():
        counts = np.asarray(histogram[name])
        share = counts / max(1, counts.sum())
        axes.stairs(share, edges, color=colour, fill=True, alpha=0.28, linewidth=0)
        axes.stairs(share, edges, color=colour, linewidth=1.6, label=name)
    threshold = histogram.get("threshold")
    if threshold is not None:
        axes.axvline(threshold, color=INK, linewidth=1, linestyle=(0, (4, 3)), label="threshold")
    axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1), ncols=3, handlelength=1.4)
    axes.spines.left.set_visible(False)
    axes.set(yticks=[], xlabel="score", ylim=(0, None))


def _scatter(axes: Axes, rows: Mapping[str, Sequence[float]]) -> None:
    axes.scatter(rows["score"], rows["similarity"], s=9, color=FIRST, alpha=0.4, linewidths=0)
    axes.grid(color=LINE, linewidth=0.8)
    axes.set(xlabel="score", ylabel="similarity")


def _recall(axes: Axes, bars: Mapping[str, Sequence[float]]) -> None:
    place = np.arange(len(bars["k"]))
    recall = np.asarray(bars["recall"])
    axes.bar(place, recall, width=0.56, color=FIRST)
    axes.errorbar(
        place,
        recall,
        [recall - bars["low"], np.asarray(bars["high"]) - recall],
        fmt="none",
        color=INK,
        elinewidth=1,
        capsize=3,
    )
    for x, (high, share) in enumerate(zip(bars["high"], bars["recall"], strict=True)):
        axes.text(x, high + 0.025, f"{100 * share:.1f}", ha="center", fontweight="bold")
    axes.hlines(bars["chance"], place - 0.4, place + 0.4, color=SECOND, linewidth=2, label="chance")
    _rates(axes, "y")
    axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1), handlelength=1.4)
    axes.spines.left.set_visible(False)
    axes.set_xticks(place, [f"k = {k:g}" for k in bars["k"]])
    axes.set(ylim=(0, 1.1), xlim=(-0.6, len(place) - 0.4))


def _by_direction(axes: Axes, recalls: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
    """A bar a direction, from the top: what comes first, with its interval and chance."""
    first = {name: {what: bars[what][0] for what in bars} for name, bars in recalls.items()}
    place = np.arange(len(first))[::-1]
    of = {
        what: np.array([one[what] for one in first.values()])
        for what in ("recall", "low", "high", "chance")
    }
    axes.barh(place, of["recall"], height=0.6, color=FIRST)
    ends = [of["recall"] - of["low"], of["high"] - of["recall"]]
    axes.errorbar(of["recall"], place, xerr=ends, fmt="none", color=INK, elinewidth=1, capsize=2)
    for y, high, share in zip(place, of["high"], of["recall"], strict=True):
        axes.text(high + 0.015, y, f"{100 * share:.1f}", va="center", fontweight="bold")
    axes.vlines(of["chance"], place - 0.4, place + 0.4, color=SECOND, linewidth=2, label="chance")
    _rates(axes, "x")
    axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1), handlelength=1.4)
    axes.spines.bottom.set_visible(False)
    axes.set_yticks(place, list(first))
    axes.set(xlim=(0, 1.1), ylim=(-0.6, len(place) - 0.4))


def _survival(axes: Axes, drawn: tuple[str, Mapping[str, Mapping[str, Sequence[float]]]]) -> None:
    axis, attacks = drawn
    for (name, curve), colour in zip(attacks.items(), (SECOND, FIRST), strict=False):
        axes.plot(
            curve["size"],
            curve["accuracy"],
            color=colour,
            linewidth=1.8,
            marker="o",
            markersize=3.5,
            label=name.partition("_")[0],
        )
    _rates(axes, "y")
    axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1), ncols=2, handlelength=1.4)
    axes.set(ylim=(-0.02, 1.02), xlabel=axis)


def _watched(axes: Axes, points: Sequence[tuple[float, float]]) -> None:
    """A metric, with a ring around the best, whose weights were kept; of equal ones, the last."""
    _line(axes, points)
    x, y = max(reversed(points), key=lambda point: point[1])
    axes.plot([x], [y], "o", markersize=9, markerfacecolor="none", markeredgecolor=FIRST)
    axes.annotate("kept", (x, y), (0, -14), textcoords="offset points", ha="center", color=MUTED)


def _line(axes: Axes, points: Sequence[tuple[float, float]]) -> None:
    x, y = zip(*points, strict=True)
    marker = "o" if len(points) <= 30 else None
    axes.plot(x, y, color=FIRST, linewidth=1.8, marker=marker, markersize=3.5)
    axes.grid(axis="y", color=LINE, linewidth=0.8)
    axes.spines.left.set_visible(False)
    axes.locator_params(nbins=6)
    axes.set_xlabel("epoch")
