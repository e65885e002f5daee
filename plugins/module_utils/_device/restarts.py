# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What has to be restarted after packages have changed: as needrestart says, and systemd does."""

from __future__ import annotations

import os
import re
from typing import Iterable

from .._common.errors import ServerError
from .._common.process import run_command
from .systemd import systemctl, systemd_runs

_PROGRAM = "/usr/sbin/needrestart"
_SECONDS = 900
_SERVICE = re.compile(r"NEEDRESTART-SVC: (\S+)")
# They cannot be restarted without ending what runs on the device: they follow with the device's next start.
_NEVER = re.compile(
    r"(dbus(-broker)?|systemd-(logind|journald|udevd|networkd|resolved)|NetworkManager|wpa_supplicant|polkit"
    r"|edgeml-packages|getty@.*|serial-getty@.*|user@.*|ssh@.*|session-.*|docker|containerd)\.(service|scope)\Z"
)


def is_there() -> bool:
    """Whether needrestart is installed."""
    return os.access(_PROGRAM, os.X_OK)


def outdated() -> list[str]:
    """The units that run what has been replaced, and can be restarted. Raises ServerError."""
    command = [_PROGRAM, "-b", "-l"]
    ended = run_command(command, _SECONDS)
    if ended.code != 0:
        raise ServerError(f"{' '.join(command)}: {ended.stderr.strip()[-500:]}")
    return sorted(name for name in set(_SERVICE.findall(ended.stdout)) if not _NEVER.match(name))


def restart(failed: Iterable[str] = ()) -> list[str]:
    """Restart them, until none is left, and those that ``failed`` before, which needrestart does not see.

    Returns their names. Raises ServerError where one fails, or is left.
    """
    if not systemd_runs():
        return []
    found = sorted({*outdated(), *failed})
    for unit in found:
        systemctl("restart", "--", unit)
    left = outdated() if found else []
    if left:
        raise ServerError(f"still run what has been replaced, after a restart: {', '.join(left)}")
    return found


def failed_units() -> list[str]:
    """The units that have failed; none where systemd does not run."""
    if not systemd_runs():
        return []
    listed = systemctl("list-units", "--failed", "--plain", "--no-legend", "--full", "--all")
    return [line.split()[0] for line in listed.splitlines() if line.strip()]
