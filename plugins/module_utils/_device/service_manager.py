# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What manages the services of this device: systemd, Supervisor, or nothing that the command could ask."""

from __future__ import annotations

from abc import ABC, abstractmethod

from .._common.errors import ServerError
from . import supervisor, systemd

_TRIAL_TIMER = "edgeml-trial.timer"
_FETCH_TIMER = "edgeml-fetch.timer"
_FETCH_UNIT = "edgeml-fetch.service"


class ServiceManager(ABC):
    """What the command asks of a service manager. Units have systemd's names."""

    @abstractmethod
    def start_watching(self) -> None:
        """Have the trials looked at regularly.

        Raises ServerError when that cannot be had: a version that nobody watches must not be switched to.
        """

    @abstractmethod
    def stop_watching(self) -> None:
        """No more looks until the next switch. Hold the lock: a swap that waits for it starts them again."""

    @abstractmethod
    def start_fetching(self) -> None:
        """Have the orders worked on now, and regularly. Raises ServerError when that cannot be had."""

    @abstractmethod
    def stop_fetching(self) -> None:
        """No more fetches until the next order. Hold the lock."""

    @abstractmethod
    def start_unit(self, unit: str) -> bool:
        """Have a unit started, and do not wait for it. Return whether there is anybody who does. Raises ServerError."""

    @abstractmethod
    def gave_up(self, unit: str) -> bool:
        """Whether a service is started no more, when something says so."""

    @abstractmethod
    def rescue_service(self, unit: str) -> None:
        """Have a service started again that was given up. Raises ServerError."""


class Systemd(ServiceManager):
    """systemd. A device that the roles did not set up lacks the timers, and then nothing is regular."""

    def start_watching(self) -> None:
        if systemd.has_unit_file(_TRIAL_TIMER):
            systemd.systemctl("start", _TRIAL_TIMER)

    def stop_watching(self) -> None:
        if systemd.has_unit_file(_TRIAL_TIMER):
            systemd.systemctl("stop", "--no-block", _TRIAL_TIMER)

    def start_fetching(self) -> None:
        if systemd.has_unit_file(_FETCH_TIMER):
            systemd.systemctl("start", _FETCH_TIMER)
            systemd.systemctl("start", "--no-block", _FETCH_UNIT)

    def stop_fetching(self) -> None:
        if systemd.has_unit_file(_FETCH_TIMER):
            systemd.systemctl("stop", "--no-block", _FETCH_TIMER)

    def start_unit(self, unit: str) -> bool:
        systemd.systemctl("start", "--no-block", unit)
        return True

    def gave_up(self, unit: str) -> bool:
        # From systemd 254 on, OnFailure= starts its units at each failure, also where the service is started again.
        try:
            return systemd.unit_property(unit, "ActiveState") in ("failed", "inactive")
        except ServerError:
            return True

    def rescue_service(self, unit: str) -> None:
        systemd.systemctl("reset-failed", unit)
        self.start_unit(unit)


class Supervisor(ServiceManager):
    """Supervisor. It has no timers: its listener works as long as there is a file that says so (``listener.py``)."""

    def start_watching(self) -> None:
        supervisor.have_work(supervisor.WATCH)

    def stop_watching(self) -> None:
        supervisor.forget_work(supervisor.WATCH)

    def start_fetching(self) -> None:
        supervisor.have_work(supervisor.FETCH)

    def stop_fetching(self) -> None:
        supervisor.forget_work(supervisor.FETCH)

    def start_unit(self, unit: str) -> bool:
        supervisor.start_program(unit)
        return True

    def gave_up(self, unit: str) -> bool:
        return True

    def rescue_service(self, unit: str) -> None:
        supervisor.start_program(unit)


class NoServiceManager(ServiceManager):
    """Nobody: nothing is regular, and nothing is started."""

    def start_watching(self) -> None:
        return

    def stop_watching(self) -> None:
        return

    def start_fetching(self) -> None:
        return

    def stop_fetching(self) -> None:
        return

    def start_unit(self, unit: str) -> bool:
        return False

    def gave_up(self, unit: str) -> bool:
        return True

    def rescue_service(self, unit: str) -> None:
        return


def service_manager() -> ServiceManager:
    """The service manager of this device."""
    if systemd.systemd_runs():
        return Systemd()
    return Supervisor() if supervisor.supervisor_runs() else NoServiceManager()
