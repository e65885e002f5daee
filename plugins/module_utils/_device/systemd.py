# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""systemd on the device, by its command."""

from __future__ import annotations

import os

from .._common.errors import ServerError

# A unit may take its time to start: the server's own limit is 180 s.
SECONDS = 300


def systemd_runs() -> bool:
    """Whether systemd manages this machine."""
    return os.path.isdir("/run/systemd/system")


def has_unit_file(unit: str) -> bool:
    """Whether the roles have brought a unit."""
    return os.path.exists(f"/etc/systemd/system/{unit}")


def unit_property(unit: str, name: str) -> str:
    """What systemd says of a unit. Raises ServerError where it does not run."""
    return systemctl("show", f"--property={name}", "--value", "--", unit)


def systemctl(*arguments: str) -> str:
    """Run systemctl and return what it printed. Raises ServerError with its reason when it fails."""
    # Many a call asks systemd nothing.
    from .._common.process import run_command

    command = ["systemctl", *arguments]
    ended = run_command(command, SECONDS)
    if ended.code != 0:
        raise ServerError(f"{' '.join(command)}: {ended.stderr.strip()}")
    return ended.stdout.strip()
