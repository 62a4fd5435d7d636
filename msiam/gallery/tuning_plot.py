"""The frontier of recall and time, drawn."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msiam.errors import GalleryError
from msiam.gallery.tuning import Wanted
from msiam.gallery.tuning_measure import Measured

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Of Okabe and Ito (2008), which people tell apart who do not see all colours; and marks as well.
COLOURS = ("#000000", "#0072b2", "#e69f00", "#009e73", "#cc79a7")
MARKS = "sovD^"
#: What a drawing may be.
SUFFIXES = (".svg", ".png")


def check_drawing(place: Path) -> None:
    """Raise, before long work begins, unless a file of that name can be drawn.

    Raises:
        GalleryError: its suffix is another one.
    """
    if place.suffix.lower() not in SUFFIXES:
        raise GalleryError(
            f"{place}: a drawing is written as {' or '.join(SUFFIXES)}; found '{place.suffix}'"
        )


def draw_frontier(
    found: Sequence[Measured], chosen: Measured | None, wanted: Wanted, suffix: str
) -> bytes:
    """Recall against time a query, alone and of many at once: a line through the best of each.

    Args:
        suffix: of the file that it is for, which ``check_drawing`` takes.
    """
    import matplotlib
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.4), layout="constrained", dpi=120)
    figure.suptitle(f"Recall@{wanted.k} and time of what was measured", fontsize=11)
    for axes, name, title in zip(
        figure.subplots(1, 2, sharex=True),
        ("single", "batch"),
        ("a query alone", "a query, of many at once"),
        strict=True,
    ):
        _draw(axes, found, chosen, wanted, name)
        axes.set_title(title, fontsize=10)
    axes.legend(frameon=False, fontsize=8.5, loc="best")
    buffer = io.BytesIO()
    if suffix.lower() == ".svg":
        with matplotlib.rc_context({"svg.hashsalt": "msiam"}):  # the same drawing every time
            figure.savefig(buffer, format="svg", metadata={"Date": None})
    else:
        figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _draw(
    axes: Axes, found: Sequence[Measured], chosen: Measured | None, wanted: Wanted, name: str
) -> None:
    def time(one: Measured) -> float:
        return 1e3 * getattr(one, name)

    factories = list(dict.fromkeys(one.options.factory for one in found))
    for number, factory in enumerate(factories):
        colour, mark = COLOURS[number % len(COLOURS)], MARKS[number % len(MARKS)]
        points = [one for one in found if one.options.factory == factory]
        style: Any = {"color": colour, "marker": mark, "markersize": 5}
        axes.plot(
            [p.recall for p in points], [time(p) for p in points], linestyle="", alpha=0.35, **style
        )
        best = frontier(points, name)
        axes.plot([p.recall for p in best], [time(p) for p in best], label=factory, **style)
    axes.axvline(wanted.recall, color="#888888", linestyle=":", linewidth=1)
    if wanted.latency is not None and name == "single":
        axes.axhline(1e3 * wanted.latency, color="#888888", linestyle=":", linewidth=1)
    if chosen is not None:
        axes.plot(
            chosen.recall, time(chosen), marker="o", markersize=14, markerfacecolor="none",
            color="#d00000", linestyle="", label="chosen",
        )  # fmt: skip
    axes.set_yscale("log")
    # What misses far more than is asked for would press all else together.
    lowest = min((one.recall for one in found), default=0)
    axes.set_xlim(left=max(lowest, wanted.recall - 0.3) - 0.01)
    axes.set_xlabel(f"recall@{wanted.k} (dotted: asked for)")
    axes.set_ylabel("ms")
    axes.grid(color="#eeeeee")
    axes.spines[["top", "right"]].set_visible(False)


def frontier(points: Sequence[Measured], name: str) -> list[Measured]:
    """Those that no other beats in both recall and time, by recall."""
    best: list[Measured] = []
    for point in sorted(points, key=lambda p: (-p.recall, getattr(p, name))):
        if not best or getattr(point, name) < getattr(best[-1], name):
            best.append(point)
    return best[::-1]
