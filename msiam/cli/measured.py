"""How large an encoder is, and how fast: measured here and now, on items made up for it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import cycle, islice

import torch

from msiam.errors import MsiamError
from msiam.registry import Spec
from msiam.registry.conformance.verdicts import ITEMS
from msiam.towers.device import pick_device
from msiam.towers.embedding import embed_features
from msiam.towers.encoder import Rejected
from msiam.towers.tower import Tower

AT_ONCE = 16  # items
SECONDS = 1.0  # to measure for, at least


@dataclass(frozen=True)
class Measured:
    """An encoder with its default options.

    Attributes:
        dim: what it gives for an item, d.
        parameters: how many numbers it learns.
        items_per_second: from raw items to vectors, prepared and embedded.
        device: what it ran on.
        skipped: why nothing could be measured; None: it was.
    """

    name: str
    modality: str
    dim: int | None = None
    parameters: int | None = None
    items_per_second: float | None = None
    device: str = ""
    skipped: str | None = None


def measure(spec: Spec) -> Measured:
    """Build an encoder with its default options, and embed items for a second."""
    modality = spec.facts["modality"]
    if modality not in ITEMS:
        return Measured(spec.name, modality, skipped=f"no items of modality '{modality}'")
    try:
        return _measure(spec, modality)
    except MsiamError as error:
        return Measured(spec.name, modality, skipped=f"cannot be made: {error}")
    except Exception as error:  # a stranger's code may fail in any way
        said = " ".join(f"{type(error).__name__}: {error}".split())
        return Measured(spec.name, modality, skipped=said)


def _measure(spec: Spec, modality: str) -> Measured:
    made = ITEMS[modality]()
    items = list(islice(cycle(made), AT_ONCE))
    tower = Tower(spec.name)
    tower.fit(made * 4)  # so that words are frequent enough to be learnt
    device = pick_device()
    tower.to(device).eval()

    def embed() -> int:
        features = [f for f in tower.encoder.prepare(items) if not isinstance(f, Rejected)]
        return len(embed_features(tower, features))

    embed()  # the first run pays for what later ones find
    start, done = time.perf_counter(), 0
    while (passed := time.perf_counter() - start) < SECONDS:
        done += embed()
    encoder = tower.encoder
    threads = torch.get_num_threads()
    where = f"cpu, threads: {threads}" if device.type == "cpu" else device.type
    return Measured(
        spec.name,
        modality,
        encoder.dim,
        sum(weight.numel() for weight in encoder.parameters()),
        round(done / passed, 1),
        where,
    )
