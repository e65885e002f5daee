# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""How fast a fetch may be, and when it must stop."""

from __future__ import annotations

import random
import time
from typing import Callable, NamedTuple

CHUNK_BYTES = 64 << 10
# How much may come at once after a pause, in seconds of the rate.
_BURST_SECONDS = 0.25
_SMALLEST_BUFFER_BYTES = 4 << 10


class Patience(NamedTuple):
    """How long a fetch waits, in seconds: ``connect`` for a connection that stands, ``stall`` for at least
    ``stall_bytes``; between two rounds of all sources up to ``backoff``, twice as much each time, up to
    ``backoff_most``. After ``rounds`` in which no byte came, it gives up; one that ``connects_once``, as soon as each
    source could not be reached."""

    connect: float = 20.0
    stall: float = 30.0
    stall_bytes: int = 512
    backoff: float = 1.0
    backoff_most: float = 60.0
    rounds: int = 5
    connects_once: bool = False

    def pause(self, fruitless: int, chance: Callable[[], float] = random.random) -> float:
        """How long to wait after so many ``fruitless`` rounds: a random part of the backoff, so that the devices of a
        site do not come back at the same moment."""
        most: float = min(self.backoff * 2 ** min(fruitless - 1, 16), self.backoff_most)
        return most * chance()


class Pace:
    """A rate in bytes per second; 0 means no limit."""

    def __init__(
        self,
        bytes_per_second: int = 0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.bytes_per_second = bytes_per_second
        self._clock, self._sleep = clock, sleep
        self._due = clock()

    @property
    def chunk_bytes(self) -> int:
        """How much to read at once."""
        if not self.bytes_per_second:
            return CHUNK_BYTES
        return max(1, min(CHUNK_BYTES, int(self.bytes_per_second * _BURST_SECONDS)))

    @property
    def receive_buffer_bytes(self) -> int | None:
        """What the kernel may take in advance: a sender whose bytes nobody reads stops only when this is full. None:
        whatever it likes."""
        return max(_SMALLEST_BUFFER_BYTES, self.chunk_bytes) if self.bytes_per_second else None

    def spend(self, count: int) -> None:
        """Wait until so many bytes were allowed."""
        if not self.bytes_per_second:
            return
        now = self._clock()
        self._due = max(self._due, now - _BURST_SECONDS) + count / self.bytes_per_second
        if self._due > now:
            self._sleep(self._due - now)
