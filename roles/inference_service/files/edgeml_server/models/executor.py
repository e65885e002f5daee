# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The bounded pool of threads in which inferences run. The runtime releases Python's global lock meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from queue import Empty, SimpleQueue
from typing import Any, Callable, Generic, TypeVar

from edgeml_server.common.errors import UnavailableError

Result = TypeVar("Result")


class Job(Generic[Result]):
    """A call that is queued or running. ``result`` is a future of the event loop that submitted it."""

    def __init__(self, call: Callable[[], Result], at_end: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self.result: asyncio.Future[Result] = self._loop.create_future()
        self._at_end = at_end
        self._call = [call]

    def take(self) -> Callable[[], Result] | None:
        """Return the call to the first caller, the thread that runs it or that withdraws it; None to others."""
        try:
            return self._call.pop()
        except IndexError:
            return None

    def withdraw(self) -> bool:
        """Drop the call, with all that it holds in memory, if it did not start. Return whether it did not.

        It keeps its place in the queue, so that what is withdrawn cannot pile up behind a call that hangs.
        """
        if self.take() is None:
            return False
        self.end()
        return True

    def end(self) -> None:
        """Release the resources of the call."""
        self._at_end()

    def deliver(self, resolve: Callable[..., None], value: object) -> None:
        """Have the event loop call ``resolve(value)``, a method of the future, unless it is done; from any thread."""
        # The loop may be closed: then no caller waits.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._resolve, resolve, value)

    def _resolve(self, resolve: Callable[..., None], value: object) -> None:
        if not self.result.done():
            resolve(value)


class InferenceExecutor:
    """Runs at most ``workers`` jobs at once and holds at most ``max_pending``, running ones included.

    It does less than concurrent.futures, whose futures cost more than running a small model.
    """

    def __init__(self, workers: int, max_pending: int) -> None:
        self._workers = workers
        self._max_pending = max_pending
        self._queue: SimpleQueue[Job[Any] | None] = SimpleQueue()
        self._threads = 0
        self._lock = threading.Lock()
        self._pending = 0
        self._started: dict[int, float] = {}

    @property
    def pending(self) -> int:
        """Jobs that wait or run."""
        return self._pending

    @property
    def waiting(self) -> int:
        """Jobs that wait for a thread."""
        return max(0, self._pending - len(self._started))

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits or runs."""
        return self._pending == 0

    def submit(self, call: Callable[[], Result], at_end: Callable[[], None]) -> Job[Result]:
        """Queue ``call``, from the event loop's thread. ``at_end`` is called once, before the result can be had.

        Raises UnavailableError when too many jobs are pending. Withdraw a job whose result is no longer needed.
        """
        with self._lock:
            if self._pending >= self._max_pending:
                raise UnavailableError(f"busy: {self._pending} inferences are pending; try again")
            self._pending += 1
        job = Job(call, at_end)
        self._queue.put(job)
        if self._threads < min(self._pending, self._workers):
            self._threads += 1
            threading.Thread(target=self._work, name=f"inference_{self._threads}", daemon=True).start()
        return job

    def longest_run_seconds(self) -> float:
        """Return for how many seconds the oldest running job has been running; 0 when none runs."""
        started = list(self._started.values())
        return time.monotonic() - min(started) if started else 0.0

    def close(self) -> None:
        """Drop the queued jobs and end the threads, without waiting for running jobs."""
        with contextlib.suppress(Empty):
            while True:
                job = self._queue.get_nowait()
                if job is not None:
                    self._remove_pending()
                    job.withdraw()
                    job.result.cancel()
        for _thread in range(self._threads):
            self._queue.put(None)

    def _work(self) -> None:
        thread = threading.get_ident()
        while True:
            job = self._queue.get()
            if job is None:
                return
            self._run(job, thread)
            # Do not keep the job in memory until the next one arrives.
            del job

    def _run(self, job: Job[Any], thread: int) -> None:
        call = job.take()
        if call is None:
            self._remove_pending()
            return
        self._started[thread] = time.monotonic()
        resolve: Callable[..., None]
        value: object
        try:
            resolve, value = job.result.set_result, call()
        except BaseException as error:
            resolve, value = job.result.set_exception, error
        del self._started[thread]
        self._remove_pending()
        job.end()
        job.deliver(resolve, value)

    def _remove_pending(self) -> None:
        with self._lock:
            self._pending -= 1
