# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What happens to a request after its reply: it is noted for the log, the statistics and retraining, in another thread.

The request path only appends to a queue, which is bounded: what does not fit is dropped and counted.
"""

from __future__ import annotations

import os
import random
import sqlite3
import threading
from collections import deque
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Callable, TypeVar

from edgeml_server.common.errors import UnavailableError
from edgeml_server.common.log import Log

from .collector import TICK_SECONDS, InputCollector
from .drift import DriftMonitor
from .metrics import Metrics
from .prediction_log import PredictionLog, Record

Result = TypeVar("Result")

BATCH_RECORDS = 100
FLUSH_SECONDS = 2.0
COLLECTED = "collected"
"""The directory of the inputs for retraining, beside the log."""
_PENDING_RECORDS_MAX = 2048
_PENDING_BYTES_MAX = 16 << 20
# From so many bytes on requests are noted at once: memory that is given back early is used again by the next ones.
_DUE_BYTES = 1 << 20

_log = Log(__name__)


class Observer:
    """Feeds the prediction log (``use_log``), drift monitor and collector, in batches, in a thread of its own."""

    def __init__(self, sample_percent: float, drift: DriftMonitor, collector: InputCollector, metrics: Metrics) -> None:
        self._prediction_log: PredictionLog | None = None
        self._sample_share = sample_percent / 100
        self._drift = drift
        self._collector = collector
        self._metrics = metrics
        self._random = random.Random()
        self._pending: deque[tuple[Record, int, bool]] = deque()
        self._calls: deque[Callable[[], None]] = deque()
        # Each counter has one writing thread; their difference is the size of the queue.
        self._bytes_in = 0
        self._bytes_out = 0
        self._filled = threading.Event()
        self._due = threading.Event()
        self._closing = False
        self._failing = False
        self._thread = threading.Thread(target=self._run, name="observer", daemon=True)
        self._thread.start()

    # ---- for the event loop ----

    def offer(self, record: Record, size: int) -> None:
        """Record a request whose body had ``size`` bytes. All failures are logged, successes at the sampling rate."""
        logged = self._prediction_log is not None and (
            record.error is not None or self._random.random() < self._sample_share
        )
        if not logged and (record.error is not None or not self._drift.watches(record.model, record.version)):
            return
        if len(self._pending) >= _PENDING_RECORDS_MAX or self._bytes_in - self._bytes_out + size > _PENDING_BYTES_MAX:
            self._metrics.dropped_records.inc()
            return
        self._bytes_in += size
        self._pending.append((record, size, logged))
        if not self._filled.is_set():
            self._filled.set()
        full = len(self._pending) >= BATCH_RECORDS or self._bytes_in - self._bytes_out >= _DUE_BYTES
        if full and not self._due.is_set():
            self._due.set()

    def with_log(self, call: Callable[[PredictionLog], Result]) -> Future[Result]:
        """Run ``call`` in the observer's thread, after all that was offered before.

        Raises UnavailableError when there is no log.
        """
        prediction_log = self._prediction_log
        if prediction_log is None:
            raise UnavailableError("this server keeps no prediction log")
        future: Future[Result] = Future()

        def run() -> None:
            try:
                future.set_result(call(prediction_log))
            except Exception as error:
                future.set_exception(error)

        self._calls.append(run)
        self._filled.set()
        self._due.set()
        return future

    def use_log(self, prediction_log: PredictionLog | None) -> None:
        """Log from now on to ``prediction_log``, and collect inputs beside it; None: nowhere."""
        self._prediction_log = prediction_log
        if prediction_log is None:
            return
        directory = os.path.join(prediction_log.directory, COLLECTED)

        def open_collector(_log: PredictionLog) -> None:
            self._collector.open(directory)

        # What is there already takes its time to read.
        self.with_log(open_collector)

    def close_log(self, seconds: float) -> None:
        """Write what was offered before and close the log, within ``seconds``; log nothing from then on.

        Raises TimeoutError when it took longer, as on a disk that hangs.
        """
        if self._prediction_log is None:
            return
        try:
            self.with_log(self._close_log).result(seconds)
        except FutureTimeoutError as error:
            raise TimeoutError(f"the prediction log was not closed within {seconds:g} s") from error

    def close(self, seconds: float) -> None:
        """Write the pending records and end, within ``seconds``."""
        self._closing = True
        self._filled.set()
        self._due.set()
        self._thread.join(seconds)

    # ---- the thread ----

    def _run(self) -> None:
        while not (self._closing and not self._pending and not self._calls):
            if self._filled.wait(TICK_SECONDS if self._collector.collects else None):
                self._due.wait(FLUSH_SECONDS)
            self._filled.clear()
            self._due.clear()
            calls = [self._calls.popleft() for _call in range(len(self._calls))]
            for _batch in range(-(-len(self._pending) // BATCH_RECORDS)):
                self._handle_batch()
            for call in calls:
                call()
            self._tick()
            if self._closing:
                self._filled.set()
                self._due.set()
        if self._prediction_log is not None:
            self._prediction_log.close()

    def _tick(self) -> None:
        try:
            if self._collector.tick() and self._prediction_log is not None:
                self._prediction_log.forget_awaiting(self._collector.awaited_since())
        except Exception:
            _log.error("internal error while looking after collected inputs", traceback=True)

    def _close_log(self, prediction_log: PredictionLog) -> None:
        self._prediction_log = None
        self._collector.close()
        prediction_log.close()

    def _handle_batch(self) -> None:
        batch = [self._pending.popleft() for _record in range(min(BATCH_RECORDS, len(self._pending)))]
        try:
            self._append([record for record, _size, logged in batch if logged])
            self._drift.add([record for record, _size, _logged in batch if record.error is None])
            self._collector.add([record for record, _size, logged in batch if logged and record.error is None])
        except Exception:
            _log.error("internal error while noting requests", traceback=True)
        self._bytes_out += sum(size for _record, size, _logged in batch)

    def _append(self, records: list[Record]) -> None:
        if not records:
            return
        if self._prediction_log is None:
            self._metrics.dropped_records.inc(len(records))
            return
        try:
            self._prediction_log.append(records)
            self._metrics.logged_records.inc(len(records))
            self._metrics.log_bytes.set(self._prediction_log.used_bytes())
        except (sqlite3.Error, UnavailableError) as error:
            self._metrics.dropped_records.inc(len(records))
            if not self._failing:
                _log.error("prediction log cannot be written", error=error)
            self._failing = True
            return
        if self._failing:
            _log.info("prediction log can be written again")
        self._failing = False
