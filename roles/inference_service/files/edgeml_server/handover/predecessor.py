# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The side of the process that serves: it hands its listening sockets to a successor that has proved itself."""

from __future__ import annotations

import contextlib
import socket
from abc import ABC, abstractmethod
from collections.abc import Sequence

from edgeml_server.common.log import Log

from .channel import PROTOCOL, Channel, Description, HandoverError

# How long another process may take for a message, but for the one that says that it has loaded all models.
_ANSWER_SECONDS = 30.0

_log = Log(__name__)


class ServingProcess(ABC):
    """What a handover needs of the process that serves. Its methods are called in the handover's thread."""

    @abstractmethod
    def describe(self) -> Description:
        """Say what it is. Raises HandoverError while it starts or stops."""

    @abstractmethod
    def listeners(self) -> Sequence[socket.socket]:
        """The listening sockets: the Unix socket, the TCP socket, and that of the handover."""

    @abstractmethod
    def extend_start(self, seconds: float) -> None:
        """Let the service manager wait ``seconds`` for the successor."""

    @abstractmethod
    def pause(self) -> None:
        """Accept no more connections, and write the prediction log no more."""

    @abstractmethod
    def resume(self) -> None:
        """Take ``pause`` back."""

    @abstractmethod
    def hand_over(self, successor: int | None) -> None:
        """Name the ``successor``, a process id, to the service manager, if it is of this service; answer what is open,
        and end."""


class Predecessor:
    """Answers at the socket of the handover, to one process after the other."""

    def __init__(self, listener: socket.socket, process: ServingProcess) -> None:
        self._listener = listener
        self._process = process

    def run(self) -> None:
        """Answer until a successor has taken over, or the listener is closed."""
        while True:
            try:
                connection, _address = self._listener.accept()
            except OSError:
                return
            with connection:
                try:
                    if self._answer(Channel(connection)):
                        return
                except Exception as error:
                    _log.warning("handover given up, this process serves on", reason=error)

    def _answer(self, channel: Channel) -> bool:
        """Talk to one process. Return whether it has taken over."""
        channel.limit(_ANSWER_SECONDS)
        asked = channel.receive("describe", "take_over")
        description = {"protocol": PROTOCOL, **self._process.describe()._asdict()}
        if asked.name == "describe":
            channel.send("description", **description)
            return False
        descriptors = [listener.fileno() for listener in self._process.listeners()]
        channel.send("description", descriptors, **description)
        # The successor's own loads have their limit.
        channel.limit(None)
        message = channel.receive("extend", "ready")
        while message.name == "extend":
            self._process.extend_start(float(message.fields["seconds"]))
            message = channel.receive("extend", "ready")
        try:
            self._process.pause()
            channel.limit(_ANSWER_SECONDS)
            channel.send("go")
            channel.receive("serve")
        except Exception:
            self._process.resume()
            raise
        self._process.hand_over(channel.peer if asked.fields.get("names_main", True) else None)
        # A successor that ends now is the service manager's affair.
        with contextlib.suppress(HandoverError):
            channel.send("main")
        return True
