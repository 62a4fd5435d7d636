"""One thread that holds the model, and a bounded queue before it.

Requests that come while it works wait together, and go through the model together: the busier the
server, the larger the batches, and a request that comes alone waits for nobody.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from msiam.serving.problems import busy

log = logging.getLogger(__name__)
Job = TypeVar("Job")
Answer = TypeVar("Answer")
Work = Callable[[list[Job]], Sequence[Answer | Exception]]


@dataclass
class _Waiting(Generic[Job, Answer]):
    job: Job
    size: int
    future: asyncio.Future[Answer] = field(repr=False)


class Batcher(Generic[Job, Answer]):
    """Runs ``work`` over jobs in batches, in a thread of its own.

    Args:
        work: a batch of jobs to the answer of each, or the exception that it ends with.
        waiting: the most queries that wait.
        batch: the most queries of a batch. A larger job is a batch of its own.
        observe: called with the number of queries of each batch and the seconds that it took.
    """

    def __init__(
        self,
        work: Work[Job, Answer],
        waiting: int,
        batch: int,
        observe: Callable[[int, float], None] = lambda size, seconds: None,
    ) -> None:
        self._work = work
        self._most = waiting
        self._batch = batch
        self._observe = observe
        self._queue: deque[_Waiting[Job, Answer]] = deque()
        self._size = 0
        self._changed = threading.Condition()
        self._closed = True
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to work."""
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="msiam-model", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many queries wait."""
        return self._size

    @property
    def alive(self) -> bool:
        return not self._closed and self._thread is not None and self._thread.is_alive()

    async def submit(self, job: Job, size: int) -> Answer:
        """The answer to a job of ``size`` queries. One that is given up is left out.

        Raises:
            ProblemError: 503, too many wait already, or the server is ending.
        """
        entry = _Waiting(job, size, asyncio.get_running_loop().create_future())
        with self._changed:
            if self._closed:
                raise busy("the server is ending", 5)
            if self._queue and self._size + size > self._most:
                raise busy(f"{self._size} queries wait already")
            self._queue.append(entry)
            self._size += size
            self._changed.notify()
        return await entry.future

    def close(self) -> None:
        """Answer what waits, take nothing more, and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while batch := self._next():
            alive = [entry for entry in batch if not entry.future.done()]
            if not alive:
                continue
            began = time.perf_counter()
            answers = self._answers([entry.job for entry in alive])
            self._observe(sum(entry.size for entry in alive), time.perf_counter() - began)
            # One call into the event loop for all: each wakes it.
            loop = alive[0].future.get_loop()
            try:
                loop.call_soon_threadsafe(_resolve, list(zip(alive, answers, strict=True)))
            except RuntimeError:  # the loop is closed: nobody waits any more
                return

    def _next(self) -> list[_Waiting[Job, Answer]]:
        """What waits, up to a batch; nothing, when the thread is to end."""
        with self._changed:
            while not self._queue and not self._closed:
                self._changed.wait()
            taken: list[_Waiting[Job, Answer]] = []
            size = 0
            while self._queue and (not taken or size + self._queue[0].size <= self._batch):
                entry = self._queue.popleft()
                taken.append(entry)
                size += entry.size
            self._size -= size
            return taken

    def _answers(self, jobs: list[Job]) -> Sequence[Answer | Exception]:
        try:
            return self._work(jobs)
        except Exception as error:
            if len(jobs) == 1:
                return [error]
            log.exception("a batch of %d failed; each goes alone", len(jobs))
            return [self._answers([job])[0] for job in jobs]


def _resolve(answered: list[tuple[_Waiting[Job, Answer], Answer | Exception]]) -> None:
    for entry, answer in answered:
        if entry.future.done():  # it was given up meanwhile
            continue
        if isinstance(answer, Exception):
            entry.future.set_exception(answer)
        else:
            entry.future.set_result(answer)
