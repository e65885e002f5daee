# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A shadow: a candidate version answers mirrored requests; clients get the active version's answers only.

Mirroring a request costs one append to a short queue; when the queue is full, the request is dropped. The candidate
runs in its own thread, at a lower priority than clients' requests.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Callable, NamedTuple, Protocol

import numpy as np

from edgeml_server.common.log import Log
from edgeml_server.common.tensors import Array

from .answers import AnswerForm, decided, predictions_of
from .metrics import Metrics

PENDING_MAX = 16
_PENDING_BYTES_MAX = 16 << 20
_NICE = 10
# The tolerance within which numbers agree.
_RELATIVE, _ABSOLUTE = 1e-3, 1e-6

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
    """The mirrored requests so far, by outcome."""

    agreed: int = 0
    disagreed: int = 0
    failed: int = 0
    dropped: int = 0


class Shadow:
    """A candidate that answers mirrored requests. The event loop calls ``offer``, the loader everything else.

    ``timed``: whether the active version answers as the candidate does, one request at a time, so that the processor
    time of both can be compared. It is that of the thread that runs the model: to wait for clients takes none.
    ``disagreed`` gets the requests that the candidate answers otherwise, in the shadow's thread. ``form`` is what the
    candidate's release says of its answers.
    """

    def __init__(
        self,
        model: str,
        version: str,
        candidate: Candidate,
        active_version: str,
        metrics: Metrics,
        timed: bool = True,
        disagreed: Callable[[MirroredRequest], None] = lambda _request: None,
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
            self.counts.dropped += 1
            self._count("dropped")
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
            outcome = self._compare(request)
            if outcome == "disagreed" and not self._stopping:
                self._disagreed(request)
            setattr(self.counts, outcome, getattr(self.counts, outcome) + 1)
            self._count(outcome)
            self._bytes_out += request.size
        self._candidate.close()

    def _compare(self, request: MirroredRequest) -> str:
        names = list(request.outputs)
        started = time.thread_time()
        try:
            outputs = dict(zip(names, self._candidate.run(request.inputs, names)))
        except Exception as error:
            if not self.counts.failed:
                _log.warning("shadow fails", model=self.model, version=self.version, error=error)
            return "failed"
        seconds = time.thread_time() - started
        for role, value in (("active", request.seconds), ("candidate", seconds)) if self._timed else ():
            self._metrics.shadow_duration.labels(self.model, self.version, role).observe(value)
        distances = [distance(request.outputs[name], outputs[name]) for name in names]
        self._metrics.shadow_distance.labels(self.model, self.version).observe(max(distances, default=0.0))
        same = all(agree(request.outputs[name], outputs[name], self._form_of(name)) for name in names)
        return "agreed" if same else "disagreed"

    def _form_of(self, output: str) -> AnswerForm | None:
        return self._form if self._form is not None and self._form.output == output else None

    def _count(self, outcome: str) -> None:
        # The series of a shadow that has ended may be removed already.
        if not self._stopping:
            self._metrics.shadow_requests.labels(self.model, self.version, outcome).inc()


def agree(active: Array, candidate: Array, form: AnswerForm | None = None) -> bool:
    """Whether two outputs say the same: the same classes, texts, whole numbers, nearly the same other numbers.

    Of an output with the answers, ``form`` says which of these they are; of others several numbers count as scores.
    """
    if active.shape != candidate.shape:
        return False
    if form is not None:
        decisions = decided(active, form), decided(candidate, form)
        if decisions[0] is not None and decisions[1] is not None:
            return bool((decisions[0] == decisions[1]).all())
    elif active.ndim == 2 and active.shape[1] > 1:
        first, second = predictions_of(active), predictions_of(candidate)
        if first is not None and second is not None:
            return first == second
    if active.dtype.kind != "f" or candidate.dtype.kind != "f":
        return bool((active == candidate).all())
    return bool(np.isclose(candidate, active, rtol=_RELATIVE, atol=_ABSOLUTE, equal_nan=True).all())


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
