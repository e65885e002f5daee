# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A server that a test runs, and what it says."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


class LoggedProcess:
    """A program that runs until the end of a ``with`` block. What it says is in ``log_directory/log``."""

    def __init__(self, log_directory: Path) -> None:
        self._log = log_directory / "log"
        self._process: subprocess.Popen[bytes] | None = None

    def __exit__(self, *_exception: object) -> None:
        """Ask the program to end, and wait for that."""
        self.process.terminate()
        self.process.wait()

    def start(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        """Run ``command``; ``environment`` None is this process's own."""
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process that was started."""
        assert self._process is not None, "not started"
        return self._process

    @property
    def log(self) -> str:
        """What it said."""
        return self._log.read_text()
