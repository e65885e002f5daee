# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The HTTP server: uvicorn, with two listeners, replaceable TLS certificates and a limit on connections."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import Iterator
from typing import Any

import uvicorn

from .app import Application
from .connections import Connections
from .limits import MAX_HEADER_BYTES
from .protocol import protocol_class
from .sockets import BACKLOG

_KEEP_ALIVE_SECONDS = 60
_HANDSHAKE_SECONDS = 10
# An idle connection, one more request on it, and a client that reads the reply as slowly as it may.
_LEAVE_SECONDS_MAX = 2 * _KEEP_ALIVE_SECONDS
_TICKS_PER_SECOND = 10


class HttpServer(uvicorn.Server):
    """Uvicorn's server on a Unix socket and a TCP socket. ``listening`` is set once both accept connections."""

    def __init__(
        self, app: Application, connections: Connections, drain_seconds: int, tls: ssl.SSLContext | None
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=protocol_class(connections),
                h11_max_incomplete_event_size=MAX_HEADER_BYTES,
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=drain_seconds,
            )
        )
        self._connections = connections
        self._tls = tls
        self.listening = asyncio.Event()
        self._leaves_at: float | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen on the Unix socket and, with TLS if there is a context, on the TCP socket."""
        assert sockets is not None
        self._unix, self._tcp = sockets
        await self.resume()
        self.started = True
        self.listening.set()

    async def resume(self) -> None:
        """Accept connections."""
        self.servers = [await self._listen(self._unix, None), await self._listen(self._tcp, self._tls)]

    async def pause(self) -> None:
        """Accept no more connections. Those that wait in the kernel's queue are for whoever has the same sockets."""
        servers, self.servers = self.servers, []
        for server in servers:
            await _close(server)

    def leave(self) -> None:
        """End when the connections that are open have ended, as idle ones do after a while."""
        self._leaves_at = time.monotonic()

    async def listen_again(self, tls: ssl.SSLContext) -> None:
        """Use ``tls`` for every later TLS handshake, without interrupting the connections that are open or waiting."""
        self._tls = tls
        old, self.servers[1] = self.servers[1], await self._listen(self._tcp, tls)
        await _close(old)

    async def _listen(self, listener: socket.socket, tls: ssl.SSLContext | None) -> asyncio.Server:
        # The asyncio.Server closes its socket; the duplicates share the kernel's queue of connections.
        handshake = None if tls is None else _HANDSHAKE_SECONDS
        return await asyncio.get_running_loop().create_server(
            self._new_protocol, sock=listener.dup(), ssl=tls, backlog=BACKLOG, ssl_handshake_timeout=handshake
        )

    def _new_protocol(self) -> asyncio.Protocol:
        kind: Any = self.config.http_protocol_class
        protocol: asyncio.Protocol = kind(config=self.config, server_state=self.server_state, app_state={})
        return protocol

    async def on_tick(self, counter: int) -> bool:
        """Close slow connections once a second, and see whether any is left; uvicorn calls this ten times a second."""
        if counter % _TICKS_PER_SECOND == 0:
            self._connections.drop_slow(time.monotonic())
            if self._leaves_at is not None and self._has_left(time.monotonic() - self._leaves_at):
                self.should_exit = True
        return await super().on_tick(counter)

    def _has_left(self, seconds: float) -> bool:
        # A connection that was accepted is not counted before its TLS handshake has ended.
        if seconds < (_HANDSHAKE_SECONDS if self._tls is not None else 1):
            return False
        return not self.server_state.connections or seconds > _LEAVE_SECONDS_MAX

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the process's signal handlers as they are."""
        yield


async def _close(server: asyncio.Server) -> None:
    """Have a server accept no more connections, and lose none that it has accepted."""
    for listener in server.sockets:
        asyncio.get_running_loop().remove_reader(listener.fileno())
    # asyncio drops a connection that a server has accepted when the server is closed before the connection's
    # task has begun, which it does in the loop's next iteration (Server._attach).
    await asyncio.sleep(0)
    server.close()
