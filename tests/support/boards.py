# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Emulated boards: their flash, their power, and how worn they are. Who talks to them is another matter."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import NamedTuple

import microcontroller
from microcontrollers import BUILT, MAP


class Wear(NamedTuple):
    """What was done to a flash since the board was made: bytes programmed, sectors erased."""

    written: int
    erased: int

    def since(self, before: Wear) -> Wear:
        """What was done since then."""
        return Wear(self.written - before.written, self.erased - before.erased)


class Board:
    """A board whose flash and whose line, a Unix socket, are in `directory`."""

    def __init__(self, directory: Path, firmware: Path, model: Path | None) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        microcontroller.manufacture(BUILT / "build", self.flash, firmware, model)

    @property
    def flash(self) -> Path:
        """The file of its flash."""
        return self._directory / "flash"

    @property
    def line(self) -> Path:
        """The socket of its line."""
        return self._directory / "serial"

    def power_on(self, cut: int = 0, seed: int = 0) -> None:
        """Start it. `cut`: see microcontroller.command."""
        self.line.unlink(missing_ok=True)
        # A path to a socket has 107 characters at most.
        command = microcontroller.command(BUILT / "build", self.flash, f"unix:{self.line.name}", cut, seed)
        self._process = subprocess.Popen(command, cwd=self._directory, stdout=subprocess.DEVNULL)

    def power_off(self) -> None:
        """Cut its power."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def power_cycle(self) -> None:
        """Off and on."""
        self.power_off()
        self.power_on()

    def is_on(self) -> bool:
        """Whether it has power."""
        return self._process is not None and self._process.poll() is None

    def wear(self) -> Wear:
        """What was done to its flash."""
        with self.flash.open("rb") as file:
            file.seek(MAP["FLASH_SIZE"])
            return Wear(*(int.from_bytes(file.read(4), "little") for _ in range(2)))
