# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Units of systemd: what is to be done to one, and how it is done."""

from __future__ import annotations

from .commands import SetupError, call

UNIT_PROPERTIES = ("ActiveState", "UnitFileState", "NeedDaemonReload")
DONE = {"start": "started", "restart": "restarted", "reload": "reloaded"}


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


def control_unit(verb: str, name: str, active_state: str) -> None:
    """Start, restart or reload a unit. Raises SetupError with the end of its log."""
    if active_state == "failed":
        # It may have been given up, and would be refused for as long as its limit says.
        call(["systemctl", "reset-failed", name])
    try:
        call(["systemctl", verb, name])
    except SetupError as error:
        log = call(["journalctl", "--unit=" + name, "--lines=10", "--output=cat", "--no-pager"], check=False)
        raise SetupError(f"{error}. The end of its log:\n{log.strip()}") from None
