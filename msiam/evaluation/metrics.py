"""How the names of metrics are to be read: which are numbers of things, and which better low."""

from __future__ import annotations

#: By the last part of their name, metrics that count things.
COUNTS = {
    "pairs", "same", "different", "queries", "gallery", "median_rank", "episodes", "items",
    "classes",
}  # fmt: skip
#: Errors; of all other metrics more is better.
ERRORS = {"eer", "brier", "ece", "median_rank"}


def is_count(name: str) -> bool:
    """Whether ``5_references/pairs`` and the like are numbers of things."""
    return name.rpartition("/")[2] in COUNTS


def labelled(name: str) -> str:
    """A metric's name as people are shown it: that of an error says so."""
    return f"{name} (lower is better)" if name.rpartition("/")[2] in ERRORS else name
