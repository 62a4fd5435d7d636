"""Progress of training: a bar or a line now and then, and one for each look at validation."""

from __future__ import annotations

import datetime
import time
from typing import Any, Self

import transformers
from rich.console import Console

from msiam.progress import progress_bar

EVERY = 30.0  # seconds between two lines where there is no terminal


class ShowProgress(transformers.TrainerCallback):
    """Steps, loss and speed as they go; the validation metric whenever there is a new one.

    Where the console is no terminal (a file, a notebook's log), a line every half minute stands in
    for the bar. Use it as a context, so that the bar is gone whichever way training ends.
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
        self.said = self.began

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        now = time.perf_counter()
        done = state.global_step - self.first
        speed = done / (now - self.began)
        note = f"{self.loss}{speed * self.batch_size:,.0f} pairs/s"
        self.bar.update(self.task, completed=state.global_step, note=note)
        if not self.console.is_terminal and now - self.said >= EVERY:
            self.said = now
            left = datetime.timedelta(seconds=round((state.max_steps - state.global_step) / speed))
            self._say(state, f"of {state.max_steps:,} · {note} · {left} left")

    def _say(self, state: Any, what: str) -> None:
        self.console.print(f"  step {state.global_step:>6,} {what}", highlight=False)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if logs and "loss" in logs:
            self.loss = f"loss {float(logs['loss']):.4f} · "

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any
    ) -> None:
        value = (metrics or {}).get(f"eval_{self.metric}", float("nan"))
        self._say(state, f"· {self.loss}validation {self.metric} {value:.4f}")
