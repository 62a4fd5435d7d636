"""The rows of benchmarks/losses.py: what is measured against what, and how it must come out."""

from __future__ import annotations

from typing import Any

from peers import (
    clip,
    pml_batch_hard,
    pml_contrastive,
    pml_ntxent,
    pml_triplet,
    siglip,
)
from row import Cost, Row, compared, ours
from small_rows import ALL, SEMI_HARD, SMALL, TRIPLET
from torch.nn.functional import normalize


def twice(cost: Cost) -> Cost:
    return lambda *given: 2 * cost(*given)


def unit(cost: Cost) -> Cost:
    """With a norm in front, as theirs has one inside."""
    return lambda *given: cost(*(normalize(x, dim=1) for x in given[:-1]), given[-1])


PML: dict[str, Any] = {"peer": "pytorch_metric_learning", "width": 256}
EIGHT: dict[str, Any] = {**PML, "columns": 1, "items": 8}
OPEN_CLIP: dict[str, Any] = {"peer": "open_clip", "width": 512, "columns": 2, "batch": 8192}


ROWS = {
    row.name: row
    for row in (
        compared(
            "ntxent",
            "PML NTXentLoss, two views",
            pml_ntxent,
            lambda: unit(ours("infonce", pool=True, learn_temperature=False)),
            **PML,
            columns=2,
            batch=512,
            time=1 / 100,
            memory=1 / 50,
        ),
        compared(
            "triplet_all",
            "PML TripletMarginLoss, all triplets",
            lambda: pml_triplet(semi_hard=False),
            lambda: unit(ours("triplet", miner=ALL, **TRIPLET)),
            **EIGHT,
            batch=1024,
            time=1 / 8,
            memory=1 / 20,
        ),
        compared(
            "triplet_semi_hard",
            "PML TripletMarginLoss, semi-hard triplets",
            lambda: pml_triplet(semi_hard=True),
            lambda: unit(ours("triplet", miner=SEMI_HARD, **TRIPLET)),
            **EIGHT,
            batch=1024,
            time=1 / 8,
            memory=1 / 20,
        ),
        compared(
            "batch_hard",
            "PML batch-hard miner + triplet",
            pml_batch_hard,
            lambda: unit(ours("triplet", miner="hard", **TRIPLET)),
            **EIGHT,
            batch=4096,
            time=1 / 4,
            memory=1 / 8,
        ),
        compared(
            "contrastive",
            "PML ContrastiveLoss, all pairs, with a mean over all and the paper's squares",
            pml_contrastive,
            lambda: unit(twice(ours("batch_contrastive", halves=False))),
            **EIGHT,
            batch=4096,
            time=1 / 3,
            memory=1 / 6,
        ),
        compared(
            "clip",
            "open_clip ClipLoss",
            clip,
            lambda: ours("infonce"),
            **OPEN_CLIP,
            time=0.7,
            memory=1 / 20,
        ),
        compared(
            "siglip",
            "open_clip SigLipLoss",
            siglip,
            lambda: ours("sigmoid"),
            **OPEN_CLIP,
            time=0.75,
            memory=1 / 15,
        ),
        Row(
            "infonce_large",
            "InfoNCE, a large batch",
            lambda side: ours("infonce"),
            columns=2,
            batch=65536,
            width=256,
            gigabytes=0.5,
            alone=True,
        ),
        *SMALL,
    )
}
