# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The sequences of a model that keeps state: requests of one client that the model answers one after the other.

Each sequence has a state of its own. It begins with the request that says so, and ends with the request that says so,
when nobody has asked for a while, with a request that fails while it runs, or with the version that serves.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Callable, NamedTuple

from edgeml_device._release.release import SequenceLimits

from edgeml_server.common.errors import InvalidRequestError, UnavailableError
from edgeml_server.common.tensors import Array

from .backend import Backend


class Place(NamedTuple):
    """Where a request is in a sequence: its ``id``, and whether it is the first and the last one."""

    id: int | str
    start: bool
    end: bool


class _Sequence:
    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.lock = threading.Lock()
        self.used = time.monotonic()
        self.users = 0


class Sequences:
    """The sequences of one loaded model.

    ``begin`` returns the model with a state of its own; ``limits`` are the manifest's.
    """

    def __init__(self, begin: Callable[[], Backend], limits: SequenceLimits) -> None:
        self._begin = begin
        self._limits = limits
        self._lock = threading.Lock()
        self._open: dict[int | str, _Sequence] = {}

    def run(self, place: Place, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """Answer one request of a sequence, after those that came before it.

        Raises InvalidRequestError for one that was not begun or has ended, UnavailableError when there are too many.
        """
        sequence = self._enter(place)
        ends = True
        try:
            with sequence.lock:
                results = sequence.backend.run(inputs, outputs)
            ends = place.end
            return results
        finally:
            self._leave(place, sequence, ends)

    def _enter(self, place: Place) -> _Sequence:
        with self._lock:
            self._end_idle()
            self._check_room(place)
        # To make one takes its time, in which others are answered.
        begun = _Sequence(self._begin()) if place.start else None
        with self._lock:
            self._check_room(place)
            if begun is not None:
                self._open[place.id] = begun
            sequence = self._open.get(place.id)
            if sequence is None:
                raise InvalidRequestError(
                    f"sequence_id: {place.id!r} is no open sequence: it was never begun, has ended, or has been idle "
                    f"for {self._limits.idle_seconds:g} s; begin one with sequence_start"
                )
            sequence.users += 1
            return sequence

    def _check_room(self, place: Place) -> None:
        if place.start and place.id not in self._open and len(self._open) >= self._limits.most:
            raise UnavailableError(f"busy: {len(self._open)} sequences are open; try again")

    def _leave(self, place: Place, sequence: _Sequence, ends: bool) -> None:
        with self._lock:
            sequence.users -= 1
            sequence.used = time.monotonic()
            if ends and self._open.get(place.id) is sequence:
                del self._open[place.id]

    def _end_idle(self) -> None:
        earliest = time.monotonic() - self._limits.idle_seconds
        idle = [name for name, each in self._open.items() if not each.users and each.used < earliest]
        for name in idle:
            del self._open[name]
