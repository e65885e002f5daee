# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A service manager of systemd, as each user has one, where systemd is not process 1."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from pathlib import Path

SYSTEMD = "/usr/lib/systemd/systemd"
GUARD_SECONDS = 240
# systemd runs only where it finds this directory. Other processes of the machine must not find it.
_START = 'mount -t tmpfs none /run/systemd && mkdir /run/systemd/system && exec "$0" --user --log-target=console'


class UserManager:
    """The service manager, as a context manager. Its log is in the file ``log``."""

    def __init__(self, directory: Path, **environment: str) -> None:
        self.log = directory / "systemd.log"
        self._process: subprocess.Popen[bytes] | None = None
        # The path of a socket below it has little room.
        self._runtime = tempfile.TemporaryDirectory(prefix="systemd-", dir="/tmp")
        self._units = Path(self._runtime.name) / "systemd" / "user"
        self._units.mkdir(parents=True)
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "XDG_RUNTIME_DIR": self._runtime.name,
            **environment,
        }

    def __enter__(self) -> UserManager:
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", _START, SYSTEMD]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)
        deadline = time.monotonic() + GUARD_SECONDS
        while not (Path(self._runtime.name) / "systemd" / "private").exists():
            assert self._process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.1)
        return self

    def __exit__(self, *_exception: object) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait(GUARD_SECONDS)
        self._runtime.cleanup()

    @property
    def runtime_directory(self) -> str:
        """What XDG_RUNTIME_DIR has to be for programs that talk to it."""
        return self._runtime.name

    def write(self, unit: str, text: str) -> Path:
        """Write a unit's file and have it read. Returns its path."""
        path = self._units / unit
        path.write_text(text)
        self.call("daemon-reload")
        return path

    def path(self, unit: str) -> Path:
        """Where a unit's file is."""
        return self._units / unit

    def call(self, *arguments: str) -> str:
        """Run ``systemctl`` and return what it printed. Raises CalledProcessError."""
        return self.run(*arguments, check=True).stdout.strip()

    def run(self, *arguments: str, check: bool = False) -> subprocess.CompletedProcess[str]:
        """Run ``systemctl``."""
        command = ["systemctl", "--user", *arguments]
        return subprocess.run(
            command, env=self._environment, capture_output=True, text=True, check=check, timeout=GUARD_SECONDS
        )

    def shown(self, unit: str, name: str) -> str:
        """What systemd says of a unit."""
        return self.call("show", f"--property={name}", "--value", unit)

    def wait_for(self, unit: str, **properties: str) -> None:
        """Wait until a unit has these properties."""
        deadline = time.monotonic() + GUARD_SECONDS
        while any(self.shown(unit, name) != value for name, value in properties.items()):
            assert time.monotonic() < deadline, (properties, self.call("show", unit))
            time.sleep(0.2)
