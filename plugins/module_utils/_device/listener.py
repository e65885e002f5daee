# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The command ``edgeml listen-supervisor``: an event listener of Supervisor, in place of systemd's timers.

Supervisor sends it an event every 5 seconds, and one when it gives a program up. In between nothing runs but this
process, which sleeps.
"""

from __future__ import annotations

import os
import sys
import time
from typing import IO, Callable, Mapping, Sequence

from .._common.process import Process
from .supervisor import FETCH, WATCH, WORK

WATCH_SECONDS = 30.0
FETCH_SECONDS = 300.0
COMMAND = "/usr/local/bin/edgeml"
SERVICE = "edgeml-inference"
# A rescue that takes longer goes on, while the listener listens again.
RESCUE_SECONDS = 900.0
_RESCUE = "rescue"
_Run = Callable[[Sequence[str]], Process]


class Listener:
    """What is done when an event comes. ``run`` starts a command; ``work`` is a directory of files that say what to do.

    A start of the device does everything once: who knows what was going on before.
    """

    def __init__(self, run: _Run, work: str = WORK, command: str = COMMAND) -> None:
        self._run = run
        self._work = work
        self._command = command
        self._due = {WATCH: 0.0, FETCH: 0.0}
        self._running: dict[str, Process] = {}
        self._first = {WATCH, FETCH}

    def event(self, name: str, fields: Mapping[str, str], now: float) -> None:
        """Take an event of Supervisor at the time ``now``, in seconds of a monotonic clock."""
        for process in self._running.values():
            # One that has ended is to be waited for, so that the kernel forgets it.
            process.poll()
        if name == "PROCESS_STATE_FATAL" and fields.get("processname") == SERVICE:
            self._running[_RESCUE] = self._run([self._command, "watch", "--service-failed"])
            self._running[_RESCUE].ends_within(RESCUE_SECONDS)
        elif name.startswith("TICK_"):
            self._regular(WATCH, WATCH_SECONDS, now)
            self._regular(FETCH, FETCH_SECONDS, now)

    def _regular(self, name: str, seconds: float, now: float) -> None:
        """Run a command when its time has come, if there is work for it and none of it runs."""
        running = self._running.get(name)
        if now < self._due[name] or (running is not None and running.poll() is None):
            return
        if name in self._first or os.path.exists(os.path.join(self._work, name)):
            self._first.discard(name)
            self._running[name] = self._run([self._command, name])
            self._due[name] = now + seconds


def parse_fields(text: str) -> dict[str, str]:
    """The ``name:value`` words of an event's header or body."""
    return dict(word.split(":", 1) for word in text.split() if ":" in word)


def listen(requests: IO[str], replies: IO[str], listener: Listener) -> None:
    """Speak the protocol of Supervisor's event listeners until it closes ``requests``."""
    while True:
        replies.write("READY\n")
        replies.flush()
        line = requests.readline()
        if not line:
            return
        header = parse_fields(line)
        fields = parse_fields(requests.read(int(header["len"])))
        listener.event(header["eventname"], fields, time.monotonic())
        replies.write("RESULT 2\nOK")
        replies.flush()


def main() -> int:
    """Listen until Supervisor ends it. Exit code: 0."""

    def run(command: Sequence[str]) -> Process:
        # What is printed to the standard output is the listener's protocol.
        return Process(command, stdout=sys.stderr)

    listen(sys.stdin, sys.stdout, Listener(run))
    return 0
