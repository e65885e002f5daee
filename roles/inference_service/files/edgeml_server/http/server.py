# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The HTTP server: two listeners, replaceable TLS certificates, and an end that loses no request."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import Sequence

from .connections import KEEP_ALIVE_SECONDS, Connections
from .protocol import Answer, OpenConnections, protocol_class
from .sockets import BACKLOG

_HANDSHAKE_SECONDS = 10
# An idle connection, one more request on it, and a client that reads the reply as slowly as it may.
_LEAVE_SECONDS_MAX = 2 * KEEP_ALIVE_SECONDS
_TICK_SECONDS = 1.0


class HttpServer:
    """Serves on a Unix socket and a TCP socket. ``listening`` is set once both accept connections."""

    def __init__(
        self, answer: Answer, connections: Connections, drain_seconds: int, tls: ssl.SSLContext | None
    ) -> None:
        self._open = OpenConnections(answer, connections)
        self._limits = connections
        self._protocol = protocol_class()
        self._drain_seconds = drain_seconds
        self._tls = tls
        self.listening = asyncio.Event()
        self._stopping = asyncio.Event()
        self._leaves_at: float | None = None
        self._servers: list[asyncio.Server] = []

    @property
    def protocol_name(self) -> str:
        """The class of the connections, which says which parser they have."""
        return self._protocol.__name__

    async def serve(self, unix: socket.socket, tcp: socket.socket) -> None:
        """Listen on the Unix socket and, with TLS if there is a context, on the TCP socket, until ``stop``."""
        self._unix, self._tcp = unix, tcp
        self._tick()
        await self.resume()
        self.listening.set()
        while not self._stopping.is_set():
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), _TICK_SECONDS)
            self._tick()
        await self._drain()

    def stop(self) -> None:
        """Accept no more connections, and end when the requests that have begun are answered."""
        self._stopping.set()

    async def resume(self) -> None:
        """Accept connections."""
        self._servers = [await self._listen(self._unix, None), await self._listen(self._tcp, self._tls)]

    async def pause(self) -> None:
        """Accept no more connections. Those that wait in the kernel's queue are for whoever has the same sockets."""
        servers, self._servers = self._servers, []
        for server in servers:
            await _close(server)

    def leave(self) -> None:
        """End when the connections that are open have ended, as idle ones do after a while."""
        self._leaves_at = time.monotonic()

    async def listen_again(self, tls: ssl.SSLContext) -> None:
        """Use ``tls`` for every later TLS handshake, without interrupting the connections that are open or waiting."""
        self._tls = tls
        old, self._servers[1] = self._servers[1], await self._listen(self._tcp, tls)
        await _close(old)

    async def cancel_requests(self, seconds: float) -> None:
        """Cancel what is still being answered, and wait for it."""
        tasks = list(self._open.tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)

    async def _listen(self, listener: socket.socket, tls: ssl.SSLContext | None) -> asyncio.Server:
        # The asyncio.Server closes its socket; the duplicates share the kernel's queue of connections.
        handshake = None if tls is None else _HANDSHAKE_SECONDS
        return await asyncio.get_running_loop().create_server(
            lambda: self._protocol(self._open),
            sock=listener.dup(),
            ssl=tls,
            backlog=BACKLOG,
            ssl_handshake_timeout=handshake,
        )

    def _tick(self) -> None:
        """Do what is due once a second."""
        now = time.monotonic()
        self._open.date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime()).encode("ascii")
        self._limits.drop_slow(now)
        if self._leaves_at is not None and self._has_left(now - self._leaves_at):
            self.stop()

    def _has_left(self, seconds: float) -> bool:
        # A connection that was accepted is not counted before its TLS handshake has ended.
        if seconds < (_HANDSHAKE_SECONDS if self._tls is not None else 1):
            return False
        return not self._open.all or seconds > _LEAVE_SECONDS_MAX

    async def _drain(self) -> None:
        for server in self._servers:
            server.close()
        for listener in (self._unix, self._tcp):
            listener.close()
        for connection in list(self._open.all):
            connection.shut_down()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._open.wait_ended(), self._drain_seconds)


async def _close(server: asyncio.Server) -> None:
    """Have a server accept no more connections, and lose none that it has accepted."""
    listeners: Sequence[socket.socket] = server.sockets
    for listener in listeners:
        asyncio.get_running_loop().remove_reader(listener.fileno())
    # asyncio drops a connection that a server has accepted when the server is closed before the connection's
    # task has begun, which it does in the loop's next iteration (Server._attach).
    await asyncio.sleep(0)
    server.close()
