"""Embedding by Ray: actors, on whatever machines the cluster has, each with a model of its own."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from msiam.embed import Crew, Job, Progress
from msiam.embed_parts import SHARED
from msiam.errors import MsiamError, RecipeError, RunError
from msiam.paths import resolve

#: Runs of windows that each worker gets one after the other: slow machines then get fewer.
TURNS = 8


class Ray(Crew):
    """Workers of a Ray cluster, which this process tells what to embed.

    The cluster is the one that is connected, or that ``RAY_ADDRESS`` names; else Ray is started on
    this machine for as long as it takes.

    Args:
        run: the folder of the run or model, which every worker loads.
        workers: how many; None: one for each GPU of the cluster, or for each CPU where it has none.

    Raises:
        RecipeError: Ray is not installed, or workers below 1.
    """

    def __init__(self, run: str | Path, workers: int | None = None) -> None:
        try:
            import ray  # noqa: F401 (to know it before anything is begun)
        except ImportError as error:
            raise RecipeError("Ray is not installed; pip install 'msiam[ray]'") from error
        if workers is not None and workers < 1:
            raise RecipeError(f"workers: found {workers}; 1 or more embed")
        self.run = Path(run).absolute()
        self.workers = workers

    def work(self, job: Job, starts: list[int], progress: Progress) -> None:
        import ray
        from ray.util import ActorPool

        job.parts.share()
        actors: list[Any] = []
        with contextlib.ExitStack() as end:
            if not ray.is_initialized():
                os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
                ray.init(include_dashboard=False, log_to_driver=False)
                end.callback(ray.shutdown)
            end.callback(lambda: [ray.kill(actor) for actor in actors])
            has = ray.cluster_resources()
            gpus = int(has.get("GPU", 0))
            workers = min(self.workers or gpus or int(has.get("CPU", 1)), len(starts))
            kind = ray.remote(num_cpus=1, num_gpus=1 if gpus else 0)(Worker)
            open_job = functools.partial(
                _open, self.run, _absolute(job.stream.name), job.out.absolute(), job.column,
                job.id, job.how,
            )  # fmt: skip
            actors += [kind.remote(open_job) for _ in range(workers)]
            runs = np.array_split(starts, min(len(starts), workers * TURNS))
            try:
                for rows in ActorPool(actors).map_unordered(
                    lambda actor, run: actor.embed.remote(run.tolist()), runs
                ):
                    progress(rows)
            except ray.exceptions.RayTaskError as error:
                if not isinstance(error.cause, MsiamError):
                    raise
                raise RunError(str(error.cause)) from error
            except ray.exceptions.RayActorError as error:
                raise RunError(
                    f"{job.out}: a worker of Ray has ended, for want of memory or with its machine; "
                    "windows that are written are kept; go on with --resume"
                ) from error


class Worker:
    """What embeds in a process of Ray. It opens model and table when it is first asked."""

    def __init__(self, open_job: Callable[[], Job]) -> None:
        self._open = open_job
        self._job: Job | None = None
        self._end = contextlib.ExitStack()

    def embed(self, starts: list[int]) -> int:
        """Embed the windows with these first rows; how many rows they had.

        Raises:
            RunError: this machine lacks the run, the table or the place of the result.
        """
        try:
            if self._job is None:
                job = self._open()
                self._end.enter_context(job.parts.helping(job.state))
                self._job = job
        except MsiamError as error:
            reason = str(error).removesuffix(f"; {SHARED}")
            raise RunError(f"a worker on {socket.gethostname()}: {reason}; {SHARED}") from None
        return self._job.embed(starts)


def _open(run: Path, table: str, out: Path, column: str, id: str | None, how: Any) -> Job:
    from msiam.run.run import load

    return Job.of(load(run).model, table, out, column, id, how)


def _absolute(table: str) -> str:
    """A file's name as it is known in every folder; a data set of the Hub stays what it is."""
    path = resolve(table)
    return str(path.absolute()) if path.exists() else table
