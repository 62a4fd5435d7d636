"""The conformance tests on everything that is registered, with items made up for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from msiam.errors import MsiamError, PluginError
from msiam.registry.conformance.backend import check_backend
from msiam.registry.conformance.encoder import check_encoder
from msiam.registry.conformance.loss import check_loss
from msiam.registry.conformance.miner import check_miner
from msiam.registry.registry import Registry, Spec

CHECKS: dict[str, Callable[[Any], None]] = {
    "loss": check_loss,
    "miner": check_miner,
    "backend": check_backend,
}


@dataclass(frozen=True)
class Verdict:
    """What the tests say about one registered name.

    Attributes:
        error: which part of the contract is broken; None: nothing that was tested.
        skipped: why it could not be tested here (an option that has no default, weights or a
            package that are not there); None: it was.
    """

    kind: str
    name: str
    error: str | None = None
    skipped: str | None = None


def check_all(registry: Registry) -> list[Verdict]:
    """Test every encoder, loss, miner and index backend, with its default options."""
    return [_judge(spec) for spec in _checked(registry)]


def check_named(registry: Registry, name: str) -> list[Verdict]:
    """Test those of them that have this name; none where nothing that is tested has it."""
    return [_judge(spec) for spec in _checked(registry) if spec.name == name]


def _checked(registry: Registry) -> list[Spec]:
    return [spec for kind in ("encoder", *CHECKS) for spec in registry.specs(kind)]


def _judge(spec: Spec) -> Verdict:
    try:
        cls = spec.load()
    except PluginError as error:
        return _verdict(spec, **{"skipped" if spec.extra else "error": str(error)})
    if spec.kind == "encoder" and spec.facts["modality"] not in ITEMS:
        return _verdict(spec, skipped=f"no items of modality '{spec.facts['modality']}' to test on")
    try:
        if spec.kind == "encoder":
            _check_encoder(spec, cls)
        else:
            CHECKS[spec.kind](cls)
    except MsiamError as error:
        return _verdict(spec, skipped=f"cannot be made: {error}")
    except AssertionError as error:
        return _verdict(spec, error=str(error))
    except Exception as error:  # a stranger's code may fail in any way
        return _verdict(spec, error=f"{type(error).__name__}: {error}")
    return _verdict(spec)


def _check_encoder(spec: Spec, cls: Any) -> None:
    modality = spec.facts["modality"]
    check_encoder(cls, spec.facts.get("preset") or {}, ITEMS[modality]())
    if cls.modality != modality:
        raise AssertionError(f"is registered as {modality}, and its class says {cls.modality}")


def _verdict(spec: Spec, **said: str) -> Verdict:
    lines = {key: " ".join(text.split()) for key, text in said.items()}
    return Verdict(spec.kind, spec.name, **lines)


def texts() -> list[str]:
    """Short and long, in several scripts, with what tokenizers stumble over."""
    return [
        "a red heart",
        "How do I learn to play the violin?",
        "How can one learn to play the violin well, and how many years does it take to do so?",
        "déjà vu, naïve façade",
        "Ein größeres Haus mit Garten",
        "красное сердце",
        "赤いハート",
        "قلب أحمر",
        "👩‍🚀 🧑🏽‍🎤 ❤️",
        "x",
        "1,234.56 €",
        "tabs\tand\nnew lines",
        " ".join(["a long text goes on and on"] * 40),
    ]


def pictures() -> list[Any]:
    """Small pictures of several sizes and modes."""
    from PIL import Image

    random = np.random.default_rng(0)

    def noise(height: int, width: int, *channels: int) -> Image.Image:
        return Image.fromarray(random.integers(0, 256, (height, width, *channels), np.uint8))

    grey, opaque, clear = noise(20, 20), noise(48, 64, 3), noise(40, 30, 4)
    return [opaque, noise(64, 48, 3), noise(1, 7, 3), grey, clear, noise(32, 32, 3).convert("P")]


#: Items to test an encoder on, by its modality.
ITEMS: dict[str, Callable[[], list[Any]]] = {"text": texts, "image": pictures}
