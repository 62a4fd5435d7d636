"""What all conformance tests share."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from msiam.errors import RecipeError
from msiam.registry.options import Options, parse_options


def require(condition: bool, message: str) -> None:
    """Raise an ``AssertionError`` where a part of a contract does not hold.

    It is no ``assert``, since ``python -O`` leaves those out.
    """
    if not condition:
        raise AssertionError(message)


def check_options(cls: Any, given: Mapping[str, Any], taken: Collection[str] = ()) -> Any:
    """The options refuse what they do not know, and are the same when written and read again.

    Args:
        taken: keys that have a meaning of their own where the options stand in a recipe.

    Returns:
        The options as ``cls`` takes them.

    Raises:
        RecipeError: ``given`` does not fit; nothing can be tested then.
    """
    require(
        isinstance(cls.Options, type) and issubclass(cls.Options, Options),
        "Options must be a subclass of msiam.Options",
    )
    clash = sorted(set(taken) & set(cls.Options.model_fields))
    require(not clash, f"options {clash} can never be set: a recipe has other keys of that name")
    parsed = parse_options(cls, given, cls.__name__)
    unknown = "no_option_has_this_name"
    try:
        parse_options(cls, {**given, unknown: 1}, cls.__name__)
    except RecipeError as error:
        require(unknown in str(error), f"an unknown option is refused without its name: {error}")
    else:
        raise AssertionError("an unknown option is accepted; set extra='forbid'")
    again = cls.Options.model_validate_json(parsed.model_dump_json())
    require(again == parsed, f"options change when written and read: {parsed!r} to {again!r}")
    return parsed


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Random numbers of torch from a seed; what was drawn before goes on afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def require_close(found: Tensor, right: Tensor, what: str, tolerance: float = 1e-5) -> None:
    """Two tensors agree, to ``tolerance`` times the larger of 1 and the largest value."""
    require(found.shape == right.shape, f"{what}: {tuple(found.shape)}, not {tuple(right.shape)}")
    if not right.numel():
        return
    scale = max(1.0, right.detach().abs().max().item())
    error = (found - right).detach().abs().max().item()
    require(error <= tolerance * scale, f"{what}: they differ by {error:.1e}")  # NaN fails, too


def require_finite(tensor: Tensor, what: str) -> None:
    require(bool(torch.isfinite(tensor).all()), f"{what}: NaN or infinite")
