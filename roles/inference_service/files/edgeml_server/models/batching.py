# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Micro-batching: requests that wait at the same time run as one, when their model's rows do not depend on each other.

Nobody waits for company: as long as a place to run is free, each request runs alone. Those that meet only busy places
form a batch, which takes no more requests when it is full, and runs when a place is free. (As Clipper's adaptive
batching, without its timeout: Crankshaw et al., Clipper, NSDI 2017.)
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Callable

import numpy as np

from edgeml_server.common.tensors import Array

from .backend import Backend, BackendWrapper


class _Batch:
    """Requests that run together. The thread of the first request runs the batch."""

    def __init__(self) -> None:
        self.members: list[Mapping[str, Array]] = []
        self.rows = 0
        self.results: list[list[Array] | Exception] = []
        self.done = threading.Event()

    def add(self, inputs: Mapping[str, Array], rows: int) -> int:
        """Add a request and return its place in the batch."""
        self.members.append(inputs)
        self.rows += rows
        return len(self.members) - 1


class BatchingBackend(BackendWrapper):
    """A loaded model that runs in the places of ``slots``, in batches of at most ``most_rows`` rows (1: none)."""

    def __init__(
        self, backend: Backend, most_rows: int, slots: threading.Semaphore, observe: Callable[[int], None]
    ) -> None:
        super().__init__(backend)
        # It waits for a place to run.
        self.bounded = False
        self._most_rows = most_rows
        self._slots = slots
        self._observe = observe
        self._lock = threading.Lock()
        self._open: dict[object, _Batch] = {}

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        rows = {len(values) for values in inputs.values()} if self._most_rows > 1 else set()
        count = rows.pop() if len(rows) == 1 else 0
        if not 0 < count < self._most_rows:
            with self._slots:
                return self._backend.run(inputs, outputs)
        kind = (tuple(outputs), tuple((name, inputs[name].shape[1:]) for name in sorted(inputs)))
        with self._lock:
            batch = self._open.get(kind)
            opens = batch is None or batch.rows + count > self._most_rows
            if batch is None or opens:
                batch = self._open[kind] = _Batch()
            place = batch.add(inputs, count)
        if opens:
            self._run_batch(kind, batch, outputs)
        else:
            batch.done.wait()
        result = batch.results[place]
        if isinstance(result, Exception):
            raise result
        return result

    def _run_batch(self, kind: object, batch: _Batch, outputs: Sequence[str]) -> None:
        try:
            with self._slots:
                with self._lock:
                    # The batch is closed: later requests open another one.
                    if self._open.get(kind) is batch:
                        del self._open[kind]
                self._observe(batch.rows)
                batch.results = self._results(batch, outputs)
        finally:
            batch.done.set()

    def _results(self, batch: _Batch, outputs: Sequence[str]) -> list[list[Array] | Exception]:
        if len(batch.members) > 1:
            try:
                together = {
                    name: np.concatenate([member[name] for member in batch.members]) for name in batch.members[0]
                }
                ends = np.cumsum([len(next(iter(member.values()))) for member in batch.members])[:-1]
                parts = [np.split(values, ends) for values in self._backend.run(together, outputs)]
                return [list(part) for part in zip(*parts)]
            except Exception:
                # One request may have caused this; each must get its own error only.
                pass
        return [self._alone(member, outputs) for member in batch.members]

    def _alone(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array] | Exception:
        try:
            return self._backend.run(inputs, outputs)
        except Exception as error:
            return error
