# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A shadow: a candidate version answers mirrored requests; clients get the active version's answers only.

What is compared is the output with the answers, row by row: a row of a batch is one sample, as a request of one row is.

Mirroring a request costs one append to a short queue; when the queue is full, the request is dropped. The candidate
runs in its own thread, at a lower priority than clients' requests.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Callable, NamedTuple, Protocol

import numpy as np

from edgeml_server.common.log import Log
from edgeml_server.common.tensors import Array

from .answers import UNKNOWN, AnswerForm, Tolerance, decided, has_rows, rows_of
from .metrics import Metrics

PENDING_MAX = 16
_PENDING_BYTES_MAX = 16 << 20
_NICE = 10
# Within what numbers agree where the release has no tolerance for them.
_TOLERANCE = Tolerance(absolute=1e-6, relative=1e-3)

_log = Log(__name__)


class Candidate(Protocol):
    """A loaded model that can shadow another."""

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """Return the named outputs for ``inputs``."""

    def close(self) -> None:
        """Free the model."""


class MirroredRequest(NamedTuple):
    """A request that the active version answered: its tensors, the model's processor time, the size of its body."""

    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]
    seconds: float
    size: int


@dataclass
class ShadowCounts:
    """The rows of the mirrored requests so far, by outcome, and how many requests were compared or failed."""

    agreed: int = 0
    disagreed: int = 0
    failed: int = 0
    dropped: int = 0
    requests: int = 0


class Shadow:
    """A candidate that answers mirrored requests. The event loop calls ``offer``, the loader everything else.

    ``timed``: whether the active version answers as the candidate does, one request at a time, so that the processor
    time of both can be compared. It is that of the thread that runs the model: to wait for clients takes none.
    ``disagreed`` gets the requests that the candidate answers otherwise, with which of their rows, in the shadow's
    thread; of a request whose answer has no rows it is one. ``form`` is what the candidate's release says of its
    answers.
    """

    def __init__(
        self,
        model: str,
        version: str,
        candidate: Candidate,
        active_version: str,
        metrics: Metrics,
        timed: bool = True,
        disagreed: Callable[[MirroredRequest, Array], None] = lambda _request, _rows: None,
        form: AnswerForm | None = None,
    ) -> None:
        self.model = model
        self.version = version
        self.active_version = active_version
        self.counts = ShadowCounts()
        self._candidate = candidate
        self._metrics = metrics
        self._timed = timed
        self._disagreed = disagreed
        self._form = form
        self._requests: queue.Queue[MirroredRequest | None] = queue.Queue()
        # Each is written by one thread only; the difference is what the queue holds.
        self._bytes_in = 0
        self._bytes_out = 0
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)
        self._thread.start()

    def offer(self, request: MirroredRequest) -> None:
        """Queue the request for the candidate, or drop it when the queue is full."""
        if (
            self._requests.qsize() >= PENDING_MAX
            or self._bytes_in - self._bytes_out + request.size > _PENDING_BYTES_MAX
        ):
            self._count("dropped", _rows_answered(request, self._compared(request)))
            return
        self._bytes_in += request.size
        self._requests.put(request)

    def stop(self, seconds: float) -> bool:
        """Drop the queue and free the candidate, waiting up to ``seconds`` for a run. Return whether it is freed."""
        self._stopping = True
        self._requests.put(None)
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        # Of this thread alone, on Linux; the runtime's own threads that it starts inherit it.
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        while True:
            request = self._requests.get()
            if request is None or self._stopping:
                break
            agreeing = self._compare(request)
            self.counts.requests += 1
            if not self._stopping:
                self._metrics.shadow_requests.labels(self.model, self.version).inc()
            if agreeing is None:
                self._count("failed", _rows_answered(request, self._compared(request)))
            else:
                if not agreeing.all() and not self._stopping:
                    self._disagreed(request, ~agreeing)
                agreed = int(agreeing.sum())
                self._count("agreed", agreed)
                self._count("disagreed", len(agreeing) - agreed)
            self._bytes_out += request.size
        self._candidate.close()

    def _compare(self, request: MirroredRequest) -> Array | None:
        """Which of the request's rows agree; None where the candidate fails."""
        names = list(request.outputs)
        started = time.thread_time()
        try:
            outputs = dict(zip(names, self._candidate.run(request.inputs, names)))
        except Exception as error:
            if not self.counts.failed:
                _log.warning("shadow fails", model=self.model, version=self.version, error=error)
            return None
        seconds = time.thread_time() - started
        for role, value in (("active", request.seconds), ("candidate", seconds)) if self._timed else ():
            self._metrics.shadow_duration.labels(self.model, self.version, role).observe(value)
        compared = self._compared(request)
        distances = [distance(request.outputs[name], outputs[name]) for name in compared]
        self._metrics.shadow_distance.labels(self.model, self.version).observe(max(distances, default=0.0))
        agreeing = np.ones(_rows_answered(request, compared), bool)
        for name, form in compared.items():
            agreeing &= agreeing_rows(request.outputs[name], outputs[name], rows_of(request.inputs), form)
        return agreeing

    def _compared(self, request: MirroredRequest) -> Mapping[str, AnswerForm]:
        """The outputs that are compared: the one with the answers; all of them where it is not known, or was not asked
        for."""
        if self._form is not None and self._form.output in request.outputs:
            return {self._form.output: self._form}
        return dict.fromkeys(request.outputs, UNKNOWN)

    def _count(self, outcome: str, rows: int) -> None:
        setattr(self.counts, outcome, getattr(self.counts, outcome) + rows)
        # The series of a shadow that has ended may be removed already.
        if rows and not self._stopping:
            self._metrics.shadow_rows.labels(self.model, self.version, outcome).inc(rows)


def agreeing_rows(active: Array, candidate: Array, rows: int, form: AnswerForm = UNKNOWN) -> Array:
    """Which of a request's ``rows`` two outputs answer alike, as one value for each; of outputs that have no answer for
    each row, one value for all.

    Alike are the same classes, texts, whole numbers, and nearly the same other numbers; ``form`` says which of these
    they are.
    """
    by_rows = has_rows(active, rows)
    if active.shape != candidate.shape:
        return np.zeros(rows if by_rows else 1, bool)
    decisions = decided(active, form), decided(candidate, form)
    if decisions[0] is not None and decisions[1] is not None:
        same = decisions[0] == decisions[1]
    elif active.dtype.kind != "f" or candidate.dtype.kind != "f":
        same = np.asarray(active == candidate)
    else:
        absolute, relative = form.tolerance or _TOLERANCE
        same = np.isclose(candidate, active, rtol=relative, atol=absolute, equal_nan=True)
    agreeing: Array = same.all(axis=tuple(range(1, same.ndim))) if by_rows else np.array([same.all()])
    return agreeing


def _rows_answered(request: MirroredRequest, outputs: Iterable[str]) -> int:
    """How many answers a request has in these outputs: one for each of its rows, or one for all."""
    rows = rows_of(request.inputs)
    return rows if any(has_rows(request.outputs[name], rows) for name in outputs) else 1


def distance(active: Array, candidate: Array) -> float:
    """The largest absolute difference of two outputs of numbers; for others the share of elements that differ.

    Infinite for different shapes.
    """
    if active.shape != candidate.shape:
        return float("inf")
    if not active.size:
        return 0.0
    if active.dtype == object or candidate.dtype == object:
        return float(np.mean(active != candidate))
    difference = np.abs(active.astype(np.float64) - candidate.astype(np.float64))
    return float(np.nan_to_num(difference, nan=0.0).max())
