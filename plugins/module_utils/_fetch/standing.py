# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What is known of a source from one object to the next: when it may be asked, and whether it is worth it."""

from __future__ import annotations

import time
from typing import Callable

from .failures import Kind, SourceError
from .sources import Source

# A source that cost a time-out is asked after the others for so long; twice as long each time, up to 64 times.
_AWAY_SECONDS = 60.0
_DOUBLED_MAX = 6


class Standing:
    """A source, as the objects before found it. A try that brings nothing for ``stall_seconds`` is a time-out."""

    def __init__(self, source: Source, stall_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.source = source
        # When it may be asked again, as it says itself.
        self.not_before = 0.0
        # Why it could not be reached, if it has given nothing since then.
        self.unreachable: str | None = None
        self._stall_seconds = stall_seconds
        self._clock = clock
        self._away_until = 0.0
        self._time_outs = 0

    @property
    def is_away(self) -> bool:
        """Whether the others are asked before it."""
        return self._clock() < self._away_until

    def note(self, error: SourceError, began: float) -> None:
        """Note how a try failed that ``began`` then: for how long the source is left alone, and whether it is away."""
        now = self._clock()
        self.not_before = max(self.not_before, now + error.wait_seconds)
        if error.kind is Kind.UNREACHABLE:
            self.unreachable = str(error)
        elif error.kind is not Kind.INTERRUPTED or now - began < self._stall_seconds:
            return
        if not self.is_away:
            self._away_until = now + _AWAY_SECONDS * 2 ** min(self._time_outs, _DOUBLED_MAX)
            self._time_outs += 1

    def note_bytes(self) -> None:
        """Note that it gave some."""
        self._away_until, self._time_outs, self.unreachable = 0.0, 0, None
