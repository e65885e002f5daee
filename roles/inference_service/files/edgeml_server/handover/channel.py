# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What two server processes say to each other at a handover: messages over a Unix socket that carries descriptors.

===========  =====================  ==================================================================
from         message                meaning
===========  =====================  ==================================================================
anyone       ``describe``           what are you? The reply is a ``description``
successor    ``take_over``          the same, and the listening sockets come with the reply; without ``names_main`` the
                                    service manager is not told of me: I am another container's process
successor    ``extend``             my start takes ``seconds`` more: let the service manager wait
successor    ``ready``              I have loaded what you serve
predecessor  ``go``                 I accept no more connections, and no longer write the prediction log
successor    ``serve``              I can write it, and am about to accept connections
predecessor  ``main``               the service manager knows you as the service's main process
===========  =====================  ==================================================================

A process that closes the connection before ``serve`` has given up: the predecessor goes on as if nothing had happened.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

PROTOCOL = 1
"""The number of this agreement. The two processes are of different versions of the server, as a rule."""
_MESSAGE_BYTES_MAX = 64 << 10
_DESCRIPTORS_MAX = 8
_CREDENTIALS = struct.Struct("3i")


class HandoverError(Exception):
    """The other process ended the handover, or said something unexpected."""


class Description(NamedTuple):
    """What a server process says of itself."""

    definition: str
    """The digest of the files by which it was started (``definition_digest``)."""
    models: Sequence[str]
    """The names of the models that it serves."""
    memory_bytes: int
    """Its memory that it shares with no file."""
    notify_socket: str
    """The address for notifications to the service manager; empty: there is none."""
    watchdog_seconds: float
    """The service manager's watchdog; 0: there is none."""


def parse_description(fields: Mapping[str, Any]) -> Description:
    """Read the fields of a ``description``. Raises HandoverError where the other process has another protocol."""
    found = fields.get("protocol")
    if found != PROTOCOL:
        raise HandoverError(f"expected the handover's protocol {PROTOCOL}; the other process has {found!r}")
    try:
        return Description(*(fields[name] for name in Description._fields))
    except KeyError as error:
        raise HandoverError(f"the other process's description lacks {error}") from error


class Message(NamedTuple):
    """One message: its name, its fields and its descriptors."""

    name: str
    fields: dict[str, Any]
    descriptors: Sequence[int]


class Channel:
    """A connection between two processes of the server."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    @classmethod
    def connect(cls, path: str) -> Channel:
        """Connect to the process that listens for handovers at ``path``. Raises OSError where none does."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            connection.connect(path)
        except OSError:
            connection.close()
            raise
        return cls(connection)

    @property
    def peer(self) -> int:
        """The process id of the other side, as it is called on this one."""
        found = self._connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        return int(_CREDENTIALS.unpack(found)[0])

    def limit(self, seconds: float | None) -> None:
        """Wait at most ``seconds`` for each message from now on; None: without a limit."""
        self._connection.settimeout(seconds)

    def send(self, name: str, descriptors: Iterable[int] = (), **fields: Any) -> None:
        """Send a message. Raises HandoverError when nobody receives it any more."""
        content = json.dumps({"message": name, **fields}).encode("utf-8")
        try:
            socket.send_fds(self._connection, [content], list(descriptors))
        except OSError as error:
            raise HandoverError(f"cannot send {name!r}: {error.strerror or error}") from error

    def receive(self, *expected: str) -> Message:
        """Wait for one of the ``expected`` messages. Raises HandoverError for the end, or for another one."""
        wanted = " or ".join(map(repr, expected))
        try:
            content, descriptors, _flags, _address = socket.recv_fds(
                self._connection, _MESSAGE_BYTES_MAX, _DESCRIPTORS_MAX
            )
        except OSError as error:
            raise HandoverError(f"expected {wanted}: {error.strerror or error}") from error
        if not content:
            raise HandoverError(f"expected {wanted}; the other process has closed the connection")
        fields = json.loads(content)
        name = fields.pop("message")
        if name not in expected:
            raise HandoverError(f"expected {wanted}; found {name!r}")
        return Message(name, fields, descriptors)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def handover_path(server_socket: str) -> str:
    """Where a server whose Unix socket is ``server_socket`` listens for its successor."""
    return os.path.join(os.path.dirname(server_socket), "handover.sock")


def definition_digest(paths: Iterable[str]) -> str:
    """The SHA-256 of the contents of files by which a server is started. Raises OSError."""
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            content = file.read()
        digest.update(b"%d\n" % len(content))
        digest.update(content)
    return digest.hexdigest()


def describe(server_socket: str) -> Description:
    """Ask the server whose Unix socket is ``server_socket``. Raises OSError, HandoverError."""
    channel = Channel.connect(handover_path(server_socket))
    try:
        channel.send("describe")
        return parse_description(channel.receive("description").fields)
    finally:
        channel.close()
