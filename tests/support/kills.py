# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Processes that end at a certain point of their work, as a power cut ends them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

KILLED = 137
_WRITES = frozenset({"os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink", "os.truncate"})


def killed_before_line(line: int, path: str, action: Callable[[], object]) -> bool:
    """Do ``action`` in a process that is ended before the given line (the first is 1) that it runs of the file at
    ``path``; return whether it came so far."""

    def watch(countdown: Callable[[], None]) -> None:
        def trace(frame: FrameType, event: str, _argument: Any) -> Any:
            if frame.f_code.co_filename != path:
                return None
            if event == "line":
                countdown()
            return trace

        sys.settrace(trace)

    return _killed(line, watch, action)


def killed_before_write(write: int, action: Callable[[], object]) -> bool:
    """Do ``action`` in a process that is ended before the given change (the first is 1) that it makes to a directory or
    a file; return whether it came so far."""

    def watch(countdown: Callable[[], None]) -> None:
        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            opened = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
            if event in _WRITES or opened:
                countdown()

        sys.addaudithook(hook)

    return _killed(write, watch, action)


def _killed(count: int, watch: Callable[[Callable[[], None]], None], action: Callable[[], object]) -> bool:
    child = os.fork()
    if child == 0:
        seen = 0

        def countdown() -> None:
            nonlocal seen
            seen += 1
            if seen == count:
                os._exit(KILLED)

        watch(countdown)
        try:
            action()
        finally:
            os._exit(0)
    _child, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) == KILLED
