"""What keeps pace with the steps of a training: a memory's start, towers that follow others."""

from __future__ import annotations

from typing import Any

import transformers


class KeepPace(transformers.TrainerCallback):
    """Tells the loss how many steps there are, and the model when one was taken.

    transformers hands it the ``Objective``.
    """

    def on_train_begin(
        self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any
    ) -> None:
        model.loss.lasts(state.max_steps)

    def on_optimizer_step(
        self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any
    ) -> None:
        model.model.follow()
