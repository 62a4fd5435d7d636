"""The steps of a training that takes turns with another: the same clock for every trainer."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import transformers
from turns import Channel, held, peak


class Clock(transformers.TrainerCallback):
    """Lets a trainer take the steps that are asked for, and tells what they took.

    A trainer that is given none waits before its next step. Loading is over by then, and what
    comes after the last step, such as evaluating, is not in any turn.

    Args:
        warm: how many steps come before the first turn.
        check: no turns; tell the losses of all steps.
    """

    def __init__(self, channel: Channel, warm: int = 0, check: bool = False) -> None:
        self.channel = channel
        self.left = warm
        self.check = check
        self.losses: list[float] = []
        self.before: int | None = None
        self.grown = 0
        self.told = False

    @contextlib.contextmanager
    def everywhere(self) -> Iterator[None]:
        """Go along with every trainer that is made in here."""
        transformers.trainer.DEFAULT_CALLBACKS.append(self)
        yield
        transformers.trainer.DEFAULT_CALLBACKS.remove(self)

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        if self.before is None:
            self.before = held()
        if self.left == 0 and not self.check:
            if not self.told:
                self.channel.tell("ready")
                self.told = True
            self.left = next(self.channel.asked(), 0)
            if self.left == 0:
                self.finish()
            self.start = time.perf_counter()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.left -= 1
        if self.left == 0 and self.told:
            self.channel.tell(time.perf_counter() - self.start)
        self.grown = peak() - (self.before or 0)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if logs and "loss" in logs:
            self.losses.append(float(logs["loss"]))

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        if self.check:
            self.channel.tell({"losses": self.losses})
            raise SystemExit

    def wait(self) -> None:
        """Until no steps are asked for any more: then the other side has done its turns, too."""
        list(self.channel.asked())

    def finish(self) -> None:
        """Tell the memory that the steps took, and end."""
        self.channel.tell({"bytes": self.grown})
        raise SystemExit
