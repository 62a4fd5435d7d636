"""Every error a user can cause. Each message is one line and says what would be right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MsiamError(Exception):
    """The user can mend this; the command line prints it without a traceback and exits with 2."""


class RecipeError(MsiamError):
    """A recipe, an option or an override that says something msiam cannot do."""


class PluginError(MsiamError):
    """A plugin, or a name that one should have brought, is missing, broken or there twice."""


class DataError(MsiamError):
    """A table, a column or a row that cannot be read as the recipe asks."""


class ModelError(MsiamError):
    """A model folder that is not whole, has been changed, or holds what may not be opened."""


class RunError(MsiamError):
    """A run folder that is busy, taken or unfinished."""


class TrainingError(MsiamError):
    """Training cannot go on (a loss that is no number)."""


class GalleryError(MsiamError):
    """A gallery that is damaged, made by another model, or asked for what it has not."""


class BackendError(GalleryError):
    """The engine that holds a gallery's vectors cannot be reached, or refuses."""


def one_of(name: str, choices: Iterable[str]) -> str:
    """The end of a message about an unknown ``name``: the nearest choice, then all of them."""
    known = sorted(choices)
    small = {choice.lower(): choice for choice in known}
    nearest = difflib.get_close_matches(name.lower(), small, n=1, cutoff=0.5)
    guess = f"did you mean '{small[nearest[0]]}'? " if nearest else ""
    return f"{guess}Known: {', '.join(known) if known else 'none'}."
