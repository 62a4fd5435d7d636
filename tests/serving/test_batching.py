from __future__ import annotations

import asyncio
import threading

import pytest

pytest.importorskip("fastapi")

from msiam.serving.batching import Batcher
from msiam.serving.problems import ProblemError


class Slow:
    """Doubles numbers, batch by batch, once it is let."""

    def __init__(self):
        self.batches = []
        self.let = threading.Event()

    def __call__(self, jobs):
        self.let.wait(30)
        self.batches.append(list(jobs))
        if "bad" in jobs:
            raise ValueError("bad")
        return [KeyError(job) if job is None else 2 * job for job in jobs]


def run(test, **options):
    work = Slow()
    sizes = []
    batcher = Batcher(
        work, **{"waiting": 100, "batch": 4, **options}, observe=lambda n, s: sizes.append(n)
    )
    batcher.start()

    async def whole():
        try:
            await test(batcher, work)
        finally:
            work.let.set()
            batcher.close()

    asyncio.run(whole())
    return work, sizes


async def submitted(batcher, *jobs, size=1):
    tasks = [asyncio.create_task(batcher.submit(job, size)) for job in jobs]
    while len([t for t in tasks if not t.done()]) and batcher.waiting == 0:
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.05)
    return tasks


def test_what_waits_goes_together_and_each_gets_its_own_answer():
    async def test(batcher, work):
        (first,) = await submitted_one(batcher, 1)
        rest = await submitted(batcher, *range(2, 9))
        assert batcher.waiting == 7
        work.let.set()
        assert await asyncio.gather(first, *rest) == [2 * n for n in range(1, 9)]

    work, sizes = run(test)
    assert work.batches == [[1], [2, 3, 4, 5], [6, 7, 8]]
    assert sizes == [1, 4, 3]


async def submitted_one(batcher, job):
    """A job that the thread has taken already."""
    task = asyncio.create_task(batcher.submit(job, 1))
    await asyncio.sleep(0.05)
    while batcher.waiting:
        await asyncio.sleep(0.001)
    return [task]


def test_a_full_queue_is_told_at_once():
    async def test(batcher, work):
        taken = await submitted_one(batcher, 1)
        taken += await submitted(batcher, 2, 3)
        with pytest.raises(ProblemError) as error:
            await batcher.submit(4, 1)
        assert error.value.status_code == 503 and error.value.headers["Retry-After"] == "1"
        work.let.set()
        assert await asyncio.gather(*taken) == [2, 4, 6]

    run(test, waiting=2)


def test_one_job_larger_than_a_batch_is_a_batch():
    async def test(batcher, work):
        taken = await submitted_one(batcher, 1)
        taken += await submitted(batcher, 2, 3, size=9)
        work.let.set()
        await asyncio.gather(*taken)

    work, _ = run(test)
    assert work.batches == [[1], [2], [3]]


def test_one_that_fails_alone_fails_alone():
    async def test(batcher, work):
        taken = await submitted_one(batcher, 1)
        taken += await submitted(batcher, 2, "bad", None)
        work.let.set()
        answers = await asyncio.gather(*taken, return_exceptions=True)
        assert answers[:2] == [2, 4]
        assert isinstance(answers[2], ValueError) and isinstance(answers[3], KeyError)

    run(test)


def test_one_that_was_given_up_is_left_out():
    async def test(batcher, work):
        (first,) = await submitted_one(batcher, 1)
        (second,) = await submitted(batcher, 2)
        second.cancel()
        await asyncio.sleep(0)
        work.let.set()
        assert await first == 2

    work, _ = run(test)
    assert work.batches == [[1]]


def test_closing_answers_what_waits_and_takes_no_more():
    async def test(batcher, work):
        taken = await submitted_one(batcher, 1)
        taken += await submitted(batcher, 2, 3)
        closing = asyncio.get_running_loop().run_in_executor(None, batcher.close)
        await asyncio.sleep(0.05)
        with pytest.raises(ProblemError) as error:
            await batcher.submit(4, 1)
        assert error.value.status_code == 503
        work.let.set()
        assert await asyncio.gather(*taken) == [2, 4, 6]
        await closing
        assert not batcher.alive

    run(test)
