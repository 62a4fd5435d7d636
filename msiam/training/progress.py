"""Progress of training: a bar, and a line for each look at validation."""

from __future__ import annotations

import time
from typing import Any, Self

import transformers
from rich.console import Console

from msiam.progress import progress_bar


class ShowProgress(transformers.TrainerCallback):
    """Steps, loss and speed as they go; the validation metric whenever there is a new one.

    Use it as a context, so that the bar is gone whichever way training ends.
    """

    def __init__(self, console: Console, metric: str, batch_size: int) -> None:
        self.console = console
        self.metric = metric
        self.batch_size = batch_size
        self.loss = ""

    def __enter__(self) -> Self:
        self.bar = progress_bar(self.console)
        self.bar.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self.bar.stop()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.task = self.bar.add_task(
            "training", total=state.max_steps, completed=state.global_step, note=""
        )
        self.first, self.began = state.global_step, time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        pairs = (state.global_step - self.first) * self.batch_size
        speed = pairs / (time.perf_counter() - self.began)
        note = f"{self.loss}{speed:,.0f} pairs/s"
        self.bar.update(self.task, completed=state.global_step, note=note)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if logs and "loss" in logs:
            self.loss = f"loss {float(logs['loss']):.4f} · "

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any
    ) -> None:
        value = (metrics or {}).get(f"eval_{self.metric}", float("nan"))
        self.console.print(
            f"  step {state.global_step:>6,} · {self.loss}validation {self.metric} {value:.4f}",
            highlight=False,
        )
