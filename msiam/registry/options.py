"""The options that a recipe may give to an encoder, a loss, a miner, a backend or an evaluator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import pydantic

from msiam.errors import RecipeError, one_of


class Options(pydantic.BaseModel):
    """Base of all options. Unknown keys are refused."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class HasOptions(Protocol):
    Options: type[Options]


def parse_options(cls: HasOptions, given: Mapping[str, Any], where: str) -> Any:
    """Check ``given`` against ``cls.Options``; ``where`` (a file, a key) begins each message.

    Raises:
        RecipeError: an unknown key (with the nearest), or a value of the wrong kind.
    """
    try:
        return cls.Options.model_validate(dict(given))
    except pydantic.ValidationError as error:
        raise RecipeError(explain(error, cls.Options, where)) from error


def explain(error: pydantic.ValidationError, model: type[pydantic.BaseModel], where: str) -> str:
    """The first fault of a pydantic error in one line: the key, what was found, what is right."""
    fault = error.errors()[0]
    path = [str(part) for part in fault["loc"]]
    key = f"{where}: {'.'.join(path)}" if where else ".".join(path)
    if fault["type"] == "extra_forbidden":
        return f"{key}: no such key; {one_of(path[-1], _keys_at(model, path[:-1]))}"
    if fault["type"] == "missing":
        return f"{key}: is missing, and has no default"
    found = repr(fault["input"])
    return f"{key}: found {found[:80]}; {fault['msg'].removeprefix('Value error, ')}"


def _keys_at(model: type[pydantic.BaseModel], path: list[str]) -> list[str]:
    """The keys of the (nested) model that ``path`` leads to."""
    for part in path:
        inner = model.model_fields[part].annotation if part in model.model_fields else None
        if isinstance(inner, type) and issubclass(inner, pydantic.BaseModel):
            model = inner
    return list(model.model_fields)
