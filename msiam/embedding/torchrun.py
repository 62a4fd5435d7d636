"""Embedding by the processes that torchrun has started: each takes a stretch of the windows."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeVar

import numpy as np

from msiam.embedding.table import Crew, Job, Progress
from msiam.training.processes import count, from_main, is_main, rank, together, wait

Result = TypeVar("Result")


def embedding_together() -> AbstractContextManager[None]:
    """Meet the other processes, each with an accelerator of its own where the machine has them.

    Raises:
        TrainingError: one of the others is gone.
    """
    return together("embedding", "windows that are written are kept; go on with --resume")


class Processes(Crew):
    """All processes of torchrun; the first begins, shares out and joins."""

    def __init__(self) -> None:
        with embedding_together():
            self.first = is_main()

    def tell(self, make: Callable[[], Result]) -> Result:
        with embedding_together():
            return from_main(make)

    def work(self, job: Job, starts: list[int], progress: Progress) -> None:
        """Embed this process's stretch, and wait for the others.

        Stretches are whole, so that nobody reads what others embed.
        """
        mine = np.array_split(starts, count())[rank()].tolist()
        with embedding_together():
            if self.first:
                job.parts.share()
            wait()
            if self.first:
                job.embed(mine, progress)
            else:
                with job.parts.helping(job.state):
                    job.embed(mine, progress)
            wait()
