# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The bounded pool of threads for inference."""

from __future__ import annotations

import asyncio
import threading

import pytest
from edgeml_server.common.errors import UnavailableError
from edgeml_server.models.executor import InferenceExecutor


def nothing() -> None:
    pass


class Hanging:
    """A call that hangs until it is told to finish."""

    def __init__(self) -> None:
        self.started, self.finish = threading.Event(), threading.Event()

    def __call__(self) -> str:
        self.started.set()
        self.finish.wait()
        return "done"


def test_the_pool_is_bounded_and_knows_what_hangs() -> None:
    async def scenario() -> None:
        executor, hang = InferenceExecutor(workers=1, max_pending=2), Hanging()
        assert executor.longest_run_seconds() == 0
        first, second = executor.submit(hang, nothing), executor.submit(hang, nothing)
        hang.started.wait()
        assert (executor.pending, executor.waiting) == (2, 1)
        earlier = executor.longest_run_seconds()
        assert executor.longest_run_seconds() > earlier > 0
        with pytest.raises(UnavailableError, match="2 inferences are pending"):
            executor.submit(hang, nothing)
        hang.finish.set()
        assert (await first.result, await second.result) == ("done", "done")
        assert (executor.pending, executor.longest_run_seconds()) == (0, 0)
        executor.close()

    asyncio.run(scenario())


def test_a_job_that_fails_leaves_its_place() -> None:
    ended = []

    def fail() -> None:
        raise KeyError("reason")

    async def scenario() -> None:
        executor = InferenceExecutor(workers=1, max_pending=1)
        for count in range(1, 4):
            with pytest.raises(KeyError, match="reason"):
                await executor.submit(fail, lambda: ended.append(1)).result
            assert (executor.pending, len(ended)) == (0, count)
        executor.close()

    asyncio.run(scenario())


def test_what_is_withdrawn_does_not_run_and_keeps_its_place_in_the_queue() -> None:
    ended = []

    async def scenario() -> None:
        executor, hang = InferenceExecutor(workers=1, max_pending=2), Hanging()
        running = executor.submit(hang, lambda: ended.append("running"))
        hang.started.wait()
        waiting = executor.submit(hang, lambda: ended.append("waiting"))
        assert (running.withdraw(), waiting.withdraw(), waiting.withdraw()) == (False, True, False)
        assert (executor.pending, ended) == (2, ["waiting"])
        with pytest.raises(UnavailableError):
            executor.submit(hang, nothing)
        hang.finish.set()
        assert await running.result == "done"
        # The thread comes to its place before it comes to this.
        assert await executor.submit(hang, lambda: ended.append("last")).result == "done"
        assert (executor.pending, ended) == (0, ["waiting", "running", "last"])
        assert not waiting.result.done()
        executor.close()

    asyncio.run(scenario())


def test_closing_drops_what_did_not_start_and_waits_for_nothing() -> None:
    ended = []
    hang = Hanging()

    async def scenario() -> InferenceExecutor:
        executor = InferenceExecutor(workers=1, max_pending=3)
        executor.submit(hang, lambda: ended.append("running"))
        hang.started.wait()
        waiting = executor.submit(hang, lambda: ended.append("waiting"))
        executor.close()
        assert (executor.pending, ended) == (1, ["waiting"])
        with pytest.raises(asyncio.CancelledError):
            await waiting.result
        return executor

    executor = asyncio.run(scenario())
    # Its event loop is closed by now: nobody waits for the result, and the thread ends all the same.
    hang.finish.set()
    for thread in threading.enumerate():
        if thread.name.startswith("inference"):
            thread.join()
    assert (executor.pending, ended) == (0, ["waiting", "running"])


def test_as_many_threads_as_jobs_at_once_and_no_more_than_workers() -> None:
    async def scenario() -> None:
        executor, hangs = InferenceExecutor(workers=2, max_pending=3), [Hanging() for _ in range(3)]
        jobs = [executor.submit(hang, nothing) for hang in hangs]
        for hang in hangs[:2]:
            hang.started.wait()
        assert (executor.waiting, hangs[2].started.is_set()) == (1, False)
        for hang in hangs:
            hang.finish.set()
        assert [await job.result for job in jobs] == ["done"] * 3
        executor.close()

    asyncio.run(scenario())
