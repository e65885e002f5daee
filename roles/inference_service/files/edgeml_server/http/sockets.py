# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The listening sockets."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from typing import NamedTuple

BACKLOG = 512
_UMASK = 0o117
_OWNER_ONLY_UMASK = 0o177


class ListenError(Exception):
    """The server cannot listen; the text names the address and the reason."""


class Listeners(NamedTuple):
    """The sockets on which a server listens: for clients on the device, for others, and for its successor."""

    unix: socket.socket
    tcp: socket.socket
    handover: socket.socket


def listen_unix(path: str) -> socket.socket:
    """Listen on the Unix socket ``path``, for the process's user and group. Replaces a dead server's socket file.

    Raises ListenError.
    """
    return _listen_unix(path, socket.SOCK_STREAM, _UMASK)


def listen_for_successor(path: str) -> socket.socket:
    """Listen on the Unix socket ``path`` for messages of the process's user. Raises ListenError."""
    return _listen_unix(path, socket.SOCK_SEQPACKET, _OWNER_ONLY_UMASK)


def _listen_unix(path: str, kind: int, umask: int) -> socket.socket:
    try:
        _remove_stale(path, kind)
        listener = socket.socket(socket.AF_UNIX, kind | socket.SOCK_CLOEXEC)
        previous = os.umask(umask)
        try:
            listener.bind(path)
        finally:
            os.umask(previous)
        listener.listen(BACKLOG)
        return listener
    except OSError as error:
        raise ListenError(f"cannot listen on {path}: {error.strerror or error}") from error


def listen_tcp(address: str, port: int) -> socket.socket:
    """Listen on an IPv4 or IPv6 ``address``; port 0 takes a free one. Raises ListenError."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return socket.create_server((address, port), family=family, backlog=BACKLOG, dualstack_ipv6=address == "::")
    except OSError as error:
        raise ListenError(f"cannot listen on {address} port {port}: {error.strerror or error}") from error


def listens_at(listener: socket.socket, address: str, port: int) -> bool:
    """Whether a TCP socket listens where ``listen_tcp`` would. Raises ListenError for an unknown address."""
    bound_address, bound_port = listener.getsockname()[:2]
    try:
        wanted = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0][4]
    except OSError as error:
        raise ListenError(f"cannot listen on {address} port {port}: {error.strerror or error}") from error
    return bound_address == wanted[0] and port in (0, bound_port)


def is_loopback(address: str) -> bool:
    """Whether a bound ``address``, as ``getsockname`` writes it, is reached from this machine only."""
    return address == "::1" or address.startswith("127.")


def remove_unix(path: str) -> None:
    """Remove the socket file, if it is still there."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _remove_stale(path: str, kind: int) -> None:
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ListenError(f"cannot listen on {path}: expected a socket or nothing; found another file")
    with socket.socket(socket.AF_UNIX, kind) as client:
        try:
            client.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
    raise ListenError(f"cannot listen on {path}: another server answers there")
