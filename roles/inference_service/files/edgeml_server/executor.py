# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The bounded pool of threads in which inferences run. The runtime releases Python's global lock meanwhile."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Callable, TypeVar

from .errors import UnavailableError

Result = TypeVar("Result")


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

    def submit(self, job: Callable[[], Result], at_end: Callable[[], None]) -> Future[Result]:
        """Queue ``job``. ``at_end`` is called once, before the result can be had, or when the job is cancelled.

        Raises UnavailableError when too many jobs are pending.
        """
        with self._lock:
            if self._pending >= self._max_pending:
                raise UnavailableError(f"busy: {self._pending} inferences are pending; try again")
            self._pending += 1
        future = self._pool.submit(self._run, job, at_end)
        future.add_done_callback(lambda done: self._end(at_end) if done.cancelled() else None)
        return future

    def longest_run_seconds(self) -> float:
        """For how long the job that has run the longest has been running; 0 when none runs."""
        started = list(self._started.values())
        return time.monotonic() - min(started) if started else 0.0

    def close(self) -> None:
        """Take no more jobs and drop those that did not start; do not wait for those that run."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _run(self, job: Callable[[], Result], at_end: Callable[[], None]) -> Result:
        thread = threading.get_ident()
        self._started[thread] = time.monotonic()
        try:
            return job()
        finally:
            del self._started[thread]
            self._end(at_end)

    def _end(self, at_end: Callable[[], None]) -> None:
        with self._lock:
            self._pending -= 1
        at_end()
