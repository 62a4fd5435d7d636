"""Sizes and times as people write them: 2GB, 5ms."""

from __future__ import annotations

import re

from msiam.errors import RecipeError

_SIZES = {
    "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KiB": 2**10, "MiB": 2**20,
    "GiB": 2**30, "TiB": 2**40,
}  # fmt: skip
_TIMES = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0}


def size(text: str, option: str) -> int:
    """``2GB`` in bytes.

    Raises:
        RecipeError: it is no size, or nothing.
    """
    return int(_amount(text, option, _SIZES, "2GB"))


def seconds(text: str, option: str) -> float:
    """``5ms`` in seconds.

    Raises:
        RecipeError: it is no time, or nothing.
    """
    return _amount(text, option, _TIMES, "5ms")


def _amount(text: str, option: str, units: dict[str, int] | dict[str, float], as_in: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*([a-zµ]+)", text.strip(), re.IGNORECASE)
    known = {unit.lower(): factor for unit, factor in units.items()}
    factor = known.get(match[2].lower()) if match else None
    if match is None or factor is None or not float(match[1]):
        raise RecipeError(f"{option}: found '{text}'; give it as {as_in} ({', '.join(units)})")
    return float(match[1]) * factor


def bytes_as_text(count: int) -> str:
    """``1.5 GB`` of so many bytes."""
    for unit in ("TB", "GB", "MB"):
        if count >= _SIZES[unit]:
            return f"{count / _SIZES[unit]:.1f} {unit}"
    return f"{count / 1000:.0f} kB"


def seconds_as_text(seconds: float) -> str:
    """``1.5 ms`` of so many seconds."""
    if seconds >= 1:
        return f"{seconds:.1f} s"
    return f"{seconds * 1e3:.2f} ms" if seconds >= 1e-4 else f"{seconds * 1e6:.0f} µs"
