# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The service ``agent`` on balenaOS: it polls, watches trials, and holds balena's update lock meanwhile.

The Supervisor ends no service while the lock's file is there, and the host's own update does not restart the device
while it is locked by flock. Supervisor and operators make the same file, so it has an owner in it, and nobody else's is
touched.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import subprocess
import sys
import time
from contextlib import suppress

LOCK = "/tmp/balena/updates.lock"
EDGEML = "/usr/local/bin/edgeml"
POLL_SECONDS = 900
WATCH_SECONDS = 30
OWNER = "edgeml agent\n"


class UpdateLock:
    """balena's update lock at ``path``, which exists as long as somebody holds it."""

    def __init__(self, path: str = LOCK, owner: str = OWNER) -> None:
        self._path = path
        self._owner = owner
        self._file: int | None = None

    def acquire(self) -> bool:
        """Whether it is ours now. An agent that was ended takes up the lock that it left."""
        os.makedirs(os.path.dirname(self._path), exist_ok=True)
        new = f"{self._path}.{os.getpid()}"
        with open(new, "w", encoding="ascii") as file:
            file.write(self._owner)
        try:
            # With its owner in it from the first moment.
            os.link(new, self._path)
        except FileExistsError:
            if self.holder() != self._owner:
                return False
        finally:
            os.unlink(new)
        if self._file is None:
            self._file = os.open(self._path, os.O_RDWR)
            with suppress(BlockingIOError):
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True

    def release(self) -> None:
        """Let others update; nothing to do where it is not ours."""
        if self.holder() == self._owner:
            os.unlink(self._path)
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def holder(self) -> str | None:
        """What is in the lock, a name or nothing; None where nobody holds it."""
        try:
            with open(self._path, encoding="ascii", errors="replace") as file:
                return file.read(200)
        except FileNotFoundError:
            return None


class Agent:
    """Polls and watches trials by the device's command, under a lock."""

    def __init__(self, lock: UpdateLock, command: str = EDGEML) -> None:
        self._lock = lock
        self._command = command

    def recover(self) -> None:
        """Bring a swap to its end that was interrupted with the agent before."""
        self._run("recover")

    def turn(self) -> bool:
        """Look at the trials, and poll where none is on. Return whether a version is on trial now."""
        # The Supervisor's lock says that this service is about to end; an operator's, that nothing should change.
        if not self._lock.acquire():
            print(f"no poll: {LOCK} is held by somebody else ({self._lock.holder()!r})", flush=True)
            self._run("watch")
            return self._is_on_trial()
        if self._is_on_trial():
            self._run("watch")
        else:
            self._run("pull")
        on_trial = self._is_on_trial()
        if not on_trial:
            self._lock.release()
        return on_trial

    def _is_on_trial(self) -> bool:
        status = subprocess.run([self._command, "status", "--json"], stdout=subprocess.PIPE, check=False)
        if status.returncode != 0:
            return False
        return any(model["trial"] for model in json.loads(status.stdout)["models"])

    def _run(self, verb: str) -> None:
        code = subprocess.run([self._command, verb], check=False).returncode
        if code != 0:
            print(f"edgeml {verb}: exit code {code}", flush=True)


def main() -> int:
    """Poll for ever, each device at moments of its own."""
    agent = Agent(UpdateLock())
    agent.recover()
    while True:
        on_trial = agent.turn()
        time.sleep(WATCH_SECONDS if on_trial else POLL_SECONDS * random.uniform(0.8, 1.2))


if __name__ == "__main__":
    sys.exit(main())
