"""Embedding by Ray Data: actors, on whatever machines the cluster has, each with its own model."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from msiam.embedding.parts import SHARED, Parts
from msiam.embedding.table import Crew, Job, Progress
from msiam.errors import MsiamError, RecipeError, RunError
from msiam.paths import resolve
from msiam.towers.inference import How

#: Runs of windows that each worker gets, one after the other: slow machines then get fewer.
TURNS = 8

#: How often a window is begun. Ray tries again what a worker had in hand that ended, since machines
#: come and go; but what needs more memory than any machine has would end them for ever.
TRIES = 4


class Ray(Crew):
    """Workers of a Ray cluster, which this process tells what to embed.

    The cluster is the one that is connected, that ``RAY_ADDRESS`` names, or that runs on this
    machine; else Ray is started here for as long as it takes.

    Args:
        run: the folder of the run or model, which every worker loads.
        workers: how many; None: one for each GPU of the cluster, or for each CPU where it has none.

    Raises:
        RecipeError: Ray is not installed, or workers below 1.
    """

    def __init__(self, run: str | Path, workers: int | None = None) -> None:
        try:
            import ray.data  # noqa: F401 (to know it before anything is begun)
        except ImportError as error:
            raise RecipeError(
                f"Ray is not installed ({error}); pip install 'msiam[ray]'"
            ) from error
        if workers is not None and workers < 1:
            raise RecipeError(f"workers: found {workers}; 1 or more embed")
        self.run = Path(run).absolute()
        self.workers = workers

    def work(self, job: Job, starts: list[int], progress: Progress) -> None:
        """Deal the windows out, and wait until all are written.

        Raises:
            RunError: a worker lacks a file or cannot write, or workers ended again and again; no
                cluster answers where ``RAY_ADDRESS`` says.
        """
        import ray.data

        job.parts.share()
        with _cluster(), _quiet():
            has = ray.cluster_resources()
            gpus = int(has.get("GPU", 0))
            workers = min(self.workers or gpus or int(has.get("CPU", 1)), len(starts))
            parts = Parts(job.out.absolute())
            open_job = functools.partial(
                _open, self.run, _absolute(job.stream.name), parts.out, job.column, job.id, job.how,
                job.rows,
            )  # fmt: skip
            runs = np.array_split(starts, min(len(starts), workers * TURNS))
            done = ray.data.from_items(
                [{"starts": run.tolist()} for run in runs], override_num_blocks=len(runs)
            ).map_batches(
                Worker, fn_constructor_args=(parts, open_job), batch_size=1, concurrency=workers,
                num_cpus=1, num_gpus=1 if gpus else 0,
            )  # fmt: skip
            for row in done.iter_rows():
                if row["refused"]:
                    raise RunError(row["refused"])
                progress(row["rows"])


class Worker:
    """What embeds in a process of Ray. It opens model and table when it is first asked."""

    def __init__(self, parts: Parts, open_job: Callable[[], Job]) -> None:
        self._parts = parts
        self._open = open_job
        self._job: Job | None = None
        self._end = contextlib.ExitStack()

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """Embed one run of windows, in Ray Data's terms: a batch of one row.

        Returns:
            How many rows of the table they have, or why they cannot be embedded here. That is no
            exception, which Ray Data would print with the stacks of two machines.
        """
        (starts,) = batch["starts"]
        try:
            return {"rows": [self.embed([int(start) for start in starts])], "refused": [""]}
        except MsiamError as error:
            return {"rows": [0], "refused": [str(error)]}

    def embed(self, starts: list[int]) -> int:
        """Embed the windows with these first rows; how many rows of the table they have.

        Those that are there are left: a worker that ended had written them.

        Raises:
            RunError: this machine lacks the run, the table or the place of the result, or cannot
                write there; or workers ended again and again at one window.
        """
        there = self._parts.starts()
        todo = [start for start in starts if start not in there]
        if todo and self._parts.begun and self._parts.tried(todo[0]) >= TRIES:
            raise RunError(
                f"{self._parts.out}: workers of Ray have ended {TRIES} times at the window from "
                f"row {todo[0]} on, for want of memory or with their machines; windows that are "
                "written are kept; go on with --resume"
            )
        host = socket.gethostname()
        try:
            if self._job is None:
                job = self._open()
                self._end.enter_context(job.parts.helping(job.state))
                self._job = job
        except MsiamError as error:
            reason = str(error).removesuffix(f"; {SHARED}")
            raise RunError(f"a worker on {host}: {reason}; {SHARED}") from None
        try:
            self._job.embed(todo)
        except MsiamError as error:
            raise RunError(f"a worker on {host}: {error}") from None
        return self._job.count(starts)


@contextlib.contextmanager
def _cluster() -> Iterator[None]:
    """Be connected."""
    import ray

    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except ConnectionError as error:
        where = os.environ.get("RAY_ADDRESS", "this machine")
        raise RunError(
            f"Ray: no cluster answers at {where}; start it, or set RAY_ADDRESS to where one runs, "
            "or to nothing to have one started here"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Ray Data prints nothing between our own lines: neither plans nor bars."""
    from ray.data import DataContext

    context, logger = DataContext.get_current(), logging.getLogger("ray.data")
    before = context.enable_progress_bars, context.print_on_execution_start, logger.level
    context.enable_progress_bars = context.print_on_execution_start = False
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        context.enable_progress_bars, context.print_on_execution_start, level = before
        logger.setLevel(level)


def _open(
    run: Path, table: str, out: Path, column: str, id: str | None, how: How, rows: int
) -> Job:
    from msiam.run.run import load

    return Job.of(load(run).model, table, out, column, id, how, rows)


def _absolute(table: str) -> str:
    """A file's name as it is known in every folder; a data set of the Hub stays what it is."""
    path = resolve(table)
    return str(path.absolute()) if path.exists() else table
