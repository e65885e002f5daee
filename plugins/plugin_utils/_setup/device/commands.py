# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Commands on the device."""

from __future__ import annotations

import os
import subprocess

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Sequence


class SetupError(Exception):
    """The device cannot be made what it should be; the text says what was expected and what was found."""


def quoted(command: Sequence[str]) -> str:
    """A command for a shell's program."""
    return " ".join("'" + word.replace("'", "'\\''") + "'" for word in command)


def ends_well(command: Sequence[str]) -> bool:
    """Whether a command is there and ends with 0."""
    nothing = subprocess.DEVNULL
    try:
        return subprocess.run(command, check=False, stdin=nothing, stdout=nothing, stderr=nothing).returncode == 0
    except FileNotFoundError:
        return False


def call(command: Sequence[str], check: bool = True) -> str:
    """Run a command and return what it printed. Raises SetupError with the end of what it said when it fails."""
    done = execute(command)
    if check and done.returncode != 0:
        said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-10:])
        raise SetupError(f"{' '.join(command)}: exit code {done.returncode}: {said}")
    return done.stdout


def execute(command: Sequence[str], content: bytes = b"") -> subprocess.CompletedProcess[str]:
    """Run a command with this content on its standard input, and wait for its end."""
    # Not every way to become root leads to root's own path.
    path = os.environ.get("PATH", os.defpath) + ":/usr/local/sbin:/usr/sbin:/sbin"
    environment = {**os.environ, "PATH": path, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    return subprocess.run(
        command,
        env=environment,
        input=content.decode(),
        capture_output=True,
        check=False,
        encoding="utf-8",
        errors="replace",
    )
