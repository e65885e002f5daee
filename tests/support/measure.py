# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run a command and append what it cost to a file: ``python measure.py FILE COMMAND [ARGUMENT …]``.

A process of its own, because the kernel adds up what a process and all children that it waited for have used.
"""

from __future__ import annotations

import json
import os
import select
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

LOOK_MILLISECONDS = 5


@dataclass(frozen=True)
class Cost:
    """What a command cost, with whatever it started and waited for, except ``resident_bytes``: the most memory that it
    had itself. ``read_bytes`` are those that it asked the kernel for, cached or not; a mapped file's do not count."""

    wall_seconds: float
    cpu_seconds: float
    resident_bytes: int
    read_bytes: int


def measured(log: Path, *command: str) -> list[str]:
    """The command that runs ``command`` and appends its cost to ``log``."""
    return [sys.executable, "-I", "-S", __file__, str(log), *command]


def read_costs(log: Path) -> list[Cost]:
    """The costs that were appended to ``log``, oldest first."""
    return [Cost(**json.loads(line)) for line in log.read_text().splitlines()]


def _main() -> int:
    log, *command = sys.argv[1:]
    before, started = _read_bytes(), time.monotonic()
    pid = os.fork()
    if pid == 0:
        os.execvp(command[0], command)
    resident = _watch_memory(pid)
    _pid, status, usage = os.wait4(pid, 0)
    cost = Cost(
        wall_seconds=time.monotonic() - started,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        resident_bytes=resident,
        read_bytes=_read_bytes() - before,
    )
    with open(log, "a", encoding="ascii") as file:
        file.write(json.dumps(asdict(cost)) + "\n")
    return os.waitstatus_to_exitcode(status)


def _watch_memory(pid: int) -> int:
    """Look at a process until it ends; return the most memory that it had since it became what it was at the end."""
    most = 0
    ended = select.poll()
    ended.register(os.pidfd_open(pid), select.POLLIN)
    while not ended.poll(LOOK_MILLISECONDS):
        most = _field(f"/proc/{pid}/status", "VmHWM") or most
    return most * 1024


def _read_bytes() -> int:
    return _field("/proc/self/io", "rchar") or 0


def _field(path: str, name: str) -> int | None:
    """The number called ``name`` in a file of the kernel's."""
    with open(path, encoding="ascii", errors="replace") as file:
        found = (line.split() for line in file if line.startswith(f"{name}:"))
        return next((int(words[1]) for words in found), None)


if __name__ == "__main__":
    sys.exit(_main())
