# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What manages the services of this device: systemd, Supervisor, or nothing that the command could ask."""

from __future__ import annotations

from .._common.errors import ServerError
from . import supervisor, systemd


def has_service_manager() -> bool:
    """Whether something starts and stops the service."""
    return systemd.systemd_runs() or supervisor.supervisor_runs()


def start_watching() -> None:
    """Have the trials looked at regularly. Nothing to do where nothing could.

    Raises ServerError when that cannot be had: a version that nobody watches must not be switched to.
    """
    if systemd.systemd_runs():
        systemd.start_watching()
    elif supervisor.supervisor_runs():
        supervisor.start_watching()


def stop_watching() -> None:
    """No more looks until the next switch. Hold the lock: a swap that waits for it starts them again."""
    if systemd.systemd_runs():
        systemd.stop_watching()
    elif supervisor.supervisor_runs():
        supervisor.stop_watching()


def start_fetching() -> None:
    """Have the orders worked on now, and regularly. Raises ServerError when that cannot be had."""
    if systemd.systemd_runs():
        systemd.start_fetching()
    elif supervisor.supervisor_runs():
        supervisor.start_fetching()


def stop_fetching() -> None:
    """No more fetches until the next order. Hold the lock."""
    if systemd.systemd_runs():
        systemd.stop_fetching()
    elif supervisor.supervisor_runs():
        supervisor.stop_fetching()


def rescue_service(unit: str) -> None:
    """Have a service started again that was given up."""
    if systemd.systemd_runs():
        systemd.rescue_service(unit)
    elif supervisor.supervisor_runs():
        supervisor.start_unit(unit)


def start_unit(unit: str) -> None:
    """Have a unit started, and do not wait for it. Raises ServerError."""
    if systemd.systemd_runs():
        systemd.systemctl("start", "--no-block", unit)
    else:
        supervisor.start_unit(unit)


def counted_restarts(unit: str) -> int | None:
    """How often a unit was restarted by its manager; None where that is not counted: Supervisor does not."""
    try:
        return int(systemd.unit_property(unit, "NRestarts")) if systemd.systemd_runs() else None
    except (ServerError, ValueError):
        return None
