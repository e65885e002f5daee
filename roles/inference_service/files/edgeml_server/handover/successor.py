# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The side of a new server process: it takes the listening sockets of the one that serves, when it can serve as well.

Until then the process that serves knows nothing worse of it than its end.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Mapping

from edgeml_server.systemd import Notifier

from .channel import Channel, handover_path, parse_description

_OOM_SCORE = "/proc/self/oom_score_adj"
_FIRST_VICTIM = "1000"
_MICROSECONDS = 1e6


def _set_oom_score(value: str) -> None:
    with open(_OOM_SCORE, "w", encoding="ascii") as file:
        file.write(value)


class Successor:
    """A new process on its way. ``listeners`` are its predecessor's: the Unix socket, TCP, and that of the handover."""

    def __init__(self, channel: Channel, starter: socket.socket | None) -> None:
        self._channel = channel
        self._starter = starter
        self._needs_starter = starter is not None
        self.is_main = False
        """Whether the service manager knows this process as the service's main process."""
        with open(_OOM_SCORE, encoding="ascii") as file:
            self._oom_score = file.read()
        # A process in another container is none that the service manager could know.
        channel.send("take_over", names_main=starter is not None)
        message = channel.receive("description")
        self.predecessor = parse_description(message.fields)
        self.listeners = [socket.socket(fileno=descriptor) for descriptor in message.descriptors]
        # Where memory does not suffice for both, the new one goes.
        with contextlib.suppress(OSError):
            _set_oom_score(_FIRST_VICTIM)
        if starter is not None:
            threading.Thread(target=self._end_with_starter, args=(starter,), name="starter", daemon=True).start()

    @classmethod
    def connect(cls, server_socket: str, starter: int) -> Successor:
        """Ask the process that serves at ``server_socket`` for its sockets. ``starter`` is the descriptor of the socket
        to the program that started this process. Raises OSError, HandoverError."""
        return cls(Channel.connect(handover_path(server_socket)), socket.socket(fileno=starter))

    @classmethod
    def join(cls, server_socket: str) -> Successor | None:
        """Take over from the process that serves at ``server_socket``, if there is one; nobody waits for this process
        there, but whoever started it by other means. Raises HandoverError while that process starts or stops."""
        try:
            channel = Channel.connect(handover_path(server_socket))
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        return cls(channel, None)

    def extend_start(self, seconds: float) -> None:
        """Have the predecessor let the service manager wait. Raises HandoverError."""
        self._channel.send("extend", seconds=seconds)

    def ready(self) -> None:
        """Have the predecessor stop accepting connections and writing the log. Raises HandoverError."""
        self._channel.send("ready")
        self._channel.receive("go")

    def become_main(self) -> None:
        """Become the service's main process; the predecessor answers what is open there, and ends. Raises
        HandoverError."""
        self._needs_starter = False
        self._channel.send("serve")
        self._channel.receive("main")
        self.is_main = True
        with contextlib.suppress(OSError):
            _set_oom_score(self._oom_score)
        if self._starter is not None:
            with contextlib.suppress(OSError):
                self._starter.send(b"\n")
        self._channel.close()

    def _end_with_starter(self, starter: socket.socket) -> None:
        """A new process that nobody waits for must not take over later."""
        starter.recv(1)
        if self._needs_starter:
            os._exit(2)


class SuccessorNotifier(Notifier):
    """A successor's notifications. Until it is the main process the service manager hears it through its predecessor,
    and only that its start takes longer."""

    def __init__(self, successor: Successor, environment: Mapping[str, str]) -> None:
        super().__init__({**environment, "NOTIFY_SOCKET": successor.predecessor.notify_socket})
        self._successor = successor

    def notify(self, **variables: str) -> None:
        """Send the variables, or what the predecessor forwards of them. Raises HandoverError."""
        if self._successor.is_main:
            if "READY" in variables and self.watchdog_seconds:
                # systemd has the predecessor's.
                variables["WATCHDOG_USEC"] = str(int(self.watchdog_seconds * _MICROSECONDS))
            super().notify(**variables)
        elif "EXTEND_TIMEOUT_USEC" in variables:
            self._successor.extend_start(int(variables["EXTEND_TIMEOUT_USEC"]) / _MICROSECONDS)
