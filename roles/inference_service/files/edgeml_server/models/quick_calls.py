# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which models answer so quickly that their calls need no other thread.

To hand a call to a thread and its result back costs more than the smallest models take. In the event loop's own thread
a call holds up every other request, so it must be known to be short: the last calls all were, this request is no larger
than theirs, and the model is one whose time depends on the sizes of its inputs and on nothing else. One call that takes
longer sends the next ones to a thread again.
"""

from __future__ import annotations

import time
from typing import Callable, TypeVar

Result = TypeVar("Result")

CALLS = 100
SECONDS_MAX = 300e-6


class QuickCalls:
    """The last calls of one model. ``bounded``: their time depends on the sizes of the inputs alone."""

    def __init__(self, bounded: bool) -> None:
        self._bounded = bounded
        self._in_a_row = 0
        self._largest = 0

    def expects_quick(self, size: int) -> bool:
        """Whether a call with a body of ``size`` bytes may run in the event loop."""
        return self._in_a_row >= CALLS and size <= self._largest

    def run(self, call: Callable[[], Result], size: int) -> Result:
        """Return what ``call`` returns, or raise what it raises, and note its processor time; from any thread.

        What others do meanwhile says nothing about the model, and would take the same time in any thread.
        """
        if not self._bounded:
            return call()
        started = time.thread_time()
        try:
            return call()
        finally:
            if time.thread_time() - started > SECONDS_MAX:
                self._in_a_row = self._largest = 0
            else:
                self._in_a_row += 1
                self._largest = max(self._largest, size)
