"""A backend named by a URL: ``pgvector://host:5432/db?index=hnsw`` is a name and its options."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl

from msiam.errors import RecipeError

_SCHEME = re.compile(r"([A-Za-z]\w*)://(.*)", re.DOTALL)
# Broader than a URL's grammar: what somebody types with an @ or a / in the password counts too.
_SECRET = re.compile(r":(?!//).*@", re.DOTALL)


def named_backend(text: str, options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """A backend's name and its options, from a name or a URL and further options.

    The scheme is the name, what follows ``://`` is the option ``url`` (nothing is none), and each
    query parameter is an option.

    Raises:
        RecipeError: a URL with a password in it (which the message does not repeat), a parameter
            without a value, or an option that is given twice.
    """
    match = _SCHEME.fullmatch(text)
    if match is None:
        return without_secret(text), dict(options)
    without_secret(text)
    name = match[1]
    url, _, query = match[2].partition("?")
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError as error:
        raise RecipeError(
            f"backend {name}: its URL has a query that is none; write ?key=value&key=value"
        ) from error
    place = [("url", url)] if url else []
    return name, _distinct([*place, *pairs, *options.items()], f"backend {name}")


def given_options(pairs: Iterable[str]) -> dict[str, Any]:
    """The options of ``--backend-option KEY=VALUE``, given any number of times.

    Raises:
        RecipeError: one without ``=``, or a key twice. Values stay out of the messages.
    """
    parts = [pair.partition("=") for pair in pairs]
    if any(not key or not sign for key, sign, _ in parts):
        raise RecipeError("--backend-option: found one without a key or an '='; give KEY=VALUE")
    return _distinct([(key, value) for key, _, value in parts], "--backend-option")


def without_secret(url: str) -> str:
    """``url`` itself, if no password stands in it.

    Raises:
        RecipeError: one does. The message does not repeat the URL, which might go into a log.
    """
    if _SECRET.search(url):
        raise RecipeError(
            "a backend's URL: holds a password (something between ':' and '@'), which would be "
            "written down with the gallery; leave it out, and set it in the environment, as "
            "docs/engines.md says for each engine"
        )
    return url


def _distinct(pairs: list[tuple[str, Any]], where: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise RecipeError(f"{where}: option '{key}' is given twice; give it once")
        found[key] = value
    return found
