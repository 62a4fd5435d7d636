"""The options that a recipe may give to an encoder, a loss, a miner, a backend or an evaluator."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Protocol, get_args

import pydantic

from msiam.errors import RecipeError, one_of


class Options(pydantic.BaseModel):
    """Base of all options. Unknown keys are refused."""

    model_config = pydantic.ConfigDict(
        extra="forbid", frozen=True, protected_namespaces=(), ser_json_inf_nan="constants"
    )


class Term(Options):
    """What is registered, by its name; every other key is its own option. A name alone will do."""

    model_config = pydantic.ConfigDict(extra="allow")

    name: str

    @pydantic.model_validator(mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class HasOptions(Protocol):
    Options: type[Options]


def parse_options(
    cls: HasOptions, given: Mapping[str, Any], where: str, beside: Collection[str] = ()
) -> Any:
    """Check ``given`` against ``cls.Options``; ``where`` (a file, a key) begins each message.

    Args:
        beside: keys that may stand in the same place and belong to somebody else, so that a
            misspelling of one of those is recognised as well.

    Raises:
        RecipeError: an unknown key (with the nearest), or a value of the wrong kind.
    """
    try:
        return cls.Options.model_validate(dict(given))
    except pydantic.ValidationError as error:
        raise RecipeError(explain(error, cls.Options, where, beside)) from error


def explain(
    error: pydantic.ValidationError,
    model: type[pydantic.BaseModel],
    where: str,
    beside: Collection[str] = (),
) -> str:
    """The first fault of a pydantic error in one line: the key, what was found, what is right.

    An unknown key comes before all other faults: a key that is misspelt is also one that is
    missing, and the misspelling is what can be seen in the file.
    """
    faults = error.errors()
    fault = next((f for f in faults if f["type"] == "extra_forbidden"), faults[0])
    path = [str(part) for part in fault["loc"]]
    key = ": ".join(filter(None, [where, ".".join(path)]))
    if fault["type"] == "extra_forbidden":
        known = {*_keys_at(model, path[:-1]), *(beside if len(path) == 1 else ())}
        return f"{key}: no such key; {one_of(path[-1], known)}"
    if fault["type"] == "missing":
        return f"{key}: is missing, and has no default"
    found = repr(fault["input"])[:80]
    if path[-1:] == ["[key]"]:
        key = ": ".join(filter(None, [where, ".".join(path[:-2])]))
        return f"{key}: found the key {found}; a key is a text, and may need quotes around it"
    return f"{key}: found {found}; {fault['msg'].removeprefix('Value error, ')}"


def _keys_at(model: type[pydantic.BaseModel], path: list[str]) -> list[str]:
    """The keys of the (nested) model that ``path`` leads to, through unions and lists."""
    for part in path:
        if part in model.model_fields:
            kind = model.model_fields[part].annotation
            inner = [k for k in (kind, *get_args(kind)) if isinstance(k, type)]
            model = next((k for k in inner if issubclass(k, pydantic.BaseModel)), model)
    return list(model.model_fields)
