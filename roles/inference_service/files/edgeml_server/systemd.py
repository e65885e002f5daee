# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Notifications to systemd (Type=notify): readiness, status and watchdog."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

from .common.log import Log

_log = Log(__name__)


class Notifier:
    """Sends notifications to the socket that systemd names in the environment, or nothing when there is none."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        environment = os.environ if environment is None else environment
        self.address = address = environment.get("NOTIFY_SOCKET", "")
        """Where systemd listens, as it names it; empty: nowhere."""
        # A leading @ stands for the zero byte of the abstract namespace.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog_seconds = _watchdog_seconds(environment) if address else 0.0
        """Time without a notification after which systemd restarts the server; 0 without a watchdog."""

    def silence(self) -> None:
        """Notify no more: another process of the service does."""
        self._address = ""

    def notify(self, **variables: str) -> None:
        """Send ``KEY=value`` lines, such as ``READY="1"``. A failure is logged, not raised."""
        if not self._address:
            return
        message = "\n".join(f"{key}={value}" for key, value in variables.items()).encode("utf-8")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notify_socket:
            notify_socket.setblocking(False)
            try:
                notify_socket.sendto(message, self._address)
            except OSError as error:
                _log.warning("cannot notify systemd", error=error)


def _watchdog_seconds(environment: Mapping[str, str]) -> float:
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    return int(environment.get("WATCHDOG_USEC", "0")) / 1e6
