# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A call with a time limit, so that a model whose load never ends does not block other models."""

from __future__ import annotations

import contextlib
import os
import threading
from typing import Callable, Generic, TypeVar

Result = TypeVar("Result")

# A call that was given up may compute until the process ends; it must not compete with requests.
_LOWEST_PRIORITY = 19


class _Call(Generic[Result]):
    """A call in a thread of its own, whose result is either taken in time or discarded when it comes."""

    def __init__(self, call: Callable[[], Result], discard: Callable[[Result], None]) -> None:
        self._call = call
        self._discard = discard
        self._lock = threading.Lock()
        self._given_up = False
        self._thread_id = 0
        self.done = threading.Event()
        self.results: list[Result] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        self._thread_id = threading.get_native_id()
        try:
            result = self._call()
        except BaseException as error:
            self.error = error
        else:
            with self._lock:
                if not self._given_up:
                    self.results.append(result)
            if not self.results:
                self._discard(result)
        self.done.set()

    def give_up(self) -> bool:
        """Discard the result when it comes. Return whether it has not come yet."""
        with self._lock:
            self._given_up = not self.results and self.error is None
        if self._given_up:
            # Of that thread alone, on Linux.
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, self._thread_id, _LOWEST_PRIORITY)
        return self._given_up


def run_within(seconds: float, call: Callable[[], Result], discard: Callable[[Result], None]) -> Result:
    """Return the result of ``call``, or raise what it raises.

    Raises TimeoutError when it takes longer. Nothing can end a thread: the call goes on at the lowest priority, and
    ``discard`` gets its result.
    """
    running = _Call(call, discard)
    threading.Thread(target=running.run, name="load", daemon=True).start()
    if not running.done.wait(seconds) and running.give_up():
        raise TimeoutError(f"not done within {seconds:g} s")
    running.done.wait()
    if running.error is not None:
        raise running.error
    return running.results[0]
