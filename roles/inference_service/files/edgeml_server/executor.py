# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The bounded pool of threads in which inferences run. The runtime releases Python's global lock meanwhile."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Callable, Generic, TypeVar

from .errors import UnavailableError

Result = TypeVar("Result")


class Job(Generic[Result]):
    """A call that waits or runs; ``future`` is its result."""

    future: Future[Result]

    def __init__(self, call: Callable[[], Result], at_end: Callable[[], None]) -> None:
        self._at_end = at_end
        self._call = [call]

    def take(self) -> Callable[[], Result] | None:
        """Return the call to whoever asks first: the thread that is to run it, or who withdraws it."""
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
        """Give back what the call used."""
        self._at_end()


class InferenceExecutor:
    """Runs at most ``workers`` jobs at once and holds at most ``max_pending``, running ones included."""

    def __init__(self, workers: int, max_pending: int) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="inference")
        self._max_pending = max_pending
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

    def submit(self, call: Callable[[], Result], at_end: Callable[[], None]) -> Job[Result]:
        """Queue ``call``. ``at_end`` is called once, before the result can be had, or when the job is given up.

        Raises UnavailableError when too many jobs are pending.
        """
        with self._lock:
            if self._pending >= self._max_pending:
                raise UnavailableError(f"busy: {self._pending} inferences are pending; try again")
            self._pending += 1
        job = Job(call, at_end)
        job.future = self._pool.submit(self._run, job)
        job.future.add_done_callback(lambda done: self._cancelled(job) if done.cancelled() else None)
        return job

    def longest_run_seconds(self) -> float:
        """For how long the job that has run the longest has been running; 0 when none runs."""
        started = list(self._started.values())
        return time.monotonic() - min(started) if started else 0.0

    def close(self) -> None:
        """Take no more jobs and drop those that did not start; do not wait for those that run."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _run(self, job: Job[Result]) -> Result:
        call = job.take()
        if call is None:
            self._leave()
            raise UnavailableError("withdrawn")
        thread = threading.get_ident()
        self._started[thread] = time.monotonic()
        try:
            return call()
        finally:
            del self._started[thread]
            self._leave()
            job.end()

    def _cancelled(self, job: Job[Result]) -> None:
        self._leave()
        job.withdraw()

    def _leave(self) -> None:
        with self._lock:
            self._pending -= 1
