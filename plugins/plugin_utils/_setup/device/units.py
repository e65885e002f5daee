# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Units of systemd: what is to be done to one, and how it is done."""

from __future__ import annotations

import os
import re

from .commands import SetupError, call, execute

UNIT_PROPERTIES = ("ActiveState", "UnitFileState", "NeedDaemonReload")
# What a reload ends with that could not have a new process take over: EX_TEMPFAIL of sysexits.h.
RESTART_NEEDED = 75
# EXIT_CGROUP of systemd.exec(5): its program could not be put beside the process that runs. Podman has divided the
# unit's control group, and a unit that does not say so (`Delegate=`) has no place in it.
_NO_PLACE = 219
# Whoever holds the lock that a handover needs has as long.
HANDOVER_LOCK_SECONDS = 300
_LOCKED = 76
DONE = {"start": "started", "restart": "restarted", "reload": "reloaded"}


class StillServesError(SetupError):
    """A unit's new process did not take over: the one before serves on."""


class Systemd:
    """The units of systemd."""

    definitions: tuple[str, ...] = ("/etc/systemd/system/", "/etc/containers/systemd/")
    reload_command = "systemctl daemon-reload"

    def show(self, unit: str) -> dict[str, str]:
        """What systemd says of a unit, which need not exist."""
        return show_unit(unit)

    def enable(self, unit: str) -> None:
        """Have a unit start with the device."""
        call(["systemctl", "--quiet", "--no-reload", "enable", unit])

    def reload(self) -> None:
        """Have systemd read its files."""
        call(["systemctl", "daemon-reload"])

    def control(self, verb: str, unit: str, active_state: str) -> None:
        """Start, restart or reload a unit. Raises SetupError with the end of its log."""
        control_unit(verb, unit, active_state)

    def hand_over(self, unit: str, lock: str) -> bool:
        """Have a new process take over, and return whether one did. Raises StillServesError."""
        return hand_over(unit, lock)


def unit_verb(active_state: str, running: bool, restart: bool, reload: bool) -> str:
    """What systemctl has to do to a unit: ``start``, ``restart``, ``reload``, or nothing (an empty text).

    ``running``: it should run; one that is not to be started may run nevertheless, and then follows its files.
    """
    if active_state != "active":
        return "start" if running else ""
    if restart:
        return "restart"
    return "reload" if reload else ""


def show_unit(name: str) -> dict[str, str]:
    """What systemd says of a unit, which need not exist."""
    shown = call(["systemctl", "show", "--property=" + ",".join(UNIT_PROPERTIES), "--", name])
    return dict(line.split("=", 1) for line in shown.splitlines())


def hand_over(name: str, lock: str) -> bool:
    """Have a unit's reload start a new process that takes over from the one that runs, with ``lock`` held (flock).

    Returns False where only a restart helps, as after a change that the process itself cannot see, such as a drop-in,
    or where the process that runs is Podman's and the unit is another runner's.
    Raises StillServesError where the new process was not ready.
    """
    before = _main_process(name)
    hold = ["flock", f"--timeout={HANDOVER_LOCK_SECONDS}", f"--conflict-exit-code={_LOCKED}", lock]
    done = execute([*(hold if os.path.exists(lock) else []), "systemctl", "reload", name])
    if done.returncode == 0:
        return _main_process(name) != before
    if done.returncode == _LOCKED:
        seconds = HANDOVER_LOCK_SECONDS
        raise StillServesError(f"{name}: {lock} was held for {seconds} s, and the process before serves on; try again")
    shown = call(["systemctl", "show", "--property=ExecReload", "--value", "--", name])
    if re.search(rf"\bstatus=({RESTART_NEEDED}|{_NO_PLACE})\b", shown):
        return False
    raise StillServesError(f"{name}: the new process did not take over, and the one before serves on. {_log_end(name)}")


def control_unit(verb: str, name: str, active_state: str) -> None:
    """Start, restart or reload a unit. Raises SetupError with the end of its log."""
    if active_state == "failed":
        # It may have been given up, and would be refused for as long as its limit says.
        call(["systemctl", "reset-failed", name])
    try:
        call(["systemctl", verb, name])
    except SetupError as error:
        raise SetupError(f"{error}. {_log_end(name)}") from None


def _main_process(name: str) -> str:
    return call(["systemctl", "show", "--property=MainPID", "--value", "--", name])


def _log_end(name: str) -> str:
    log = call(["journalctl", "--unit=" + name, "--lines=10", "--output=cat", "--no-pager"], check=False)
    return f"The end of its log:\n{log.strip()}"
