"""Our side of benchmarks/speed.py: what a user of msiam would write."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from speed_plans import LITE0, MINILM, Encoding, Job, Training

TEXT = {"encoder": "transformer", "model": MINILM, "dim": 384, "head": "none"}
PICTURE = {
    "encoder": "efficientnet_lite0",
    "weights": LITE0,
    "size": 192,
    "fit": "stretch",
    "dim": 1280,
    "head": "none",
}


def encode(job: Job, plan: Encoding, tower: dict[str, object], optimize: bool = True) -> None:
    from msiam import Model

    model = Model({"tower": tower}, {"item": "tower"})
    model.tower("tower").fit([])
    plan.serve(
        job,
        lambda items: model.encode({"item": items}, precision=plan.precision, optimize=optimize)[
            "item"
        ],
    )


def train(job: Job, plan: Training) -> None:
    import msiam

    def trained(seed: int) -> Callable[[list[str]], np.ndarray]:
        run = msiam.train(
            msiam.Model.load(job.folder / "model") if plan.saved else plan.model(),
            job.read("rows.json"),
            folder=job.folder / f"run-{seed}",
            loss=plan.loss,
            batch_size=plan.batch,
            max_steps=plan.steps,
            learning_rate=plan.rate,
            weight_decay=0.0,
            warmup=plan.warmup,
            schedule="linear",
            precision=plan.precision,
            evaluations=1,
            seed=seed,
            **plan.said,
        )
        return lambda texts: run.encode({plan.columns[0]: texts})[plan.columns[0]]

    plan.serve(job, trained)
