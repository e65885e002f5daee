# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Limits on open connections: their number, and how long a client may keep the server waiting."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable
from typing import ClassVar

from edgeml_server.observe.metrics import Metrics

KEEP_ALIVE_SECONDS = 60


class Connection(ABC):
    """What the limits need to know about a connection."""

    CROWDED: ClassVar[int] = 503
    SLOW: ClassVar[int] = 408

    from_unix_socket: bool
    """Whether the client uses the Unix socket. The device's own connections do not count."""
    idle_since: float | None = None
    """When its last response was sent, by ``time.monotonic``; None as long as a request arrives or is answered."""
    last_awaited: Hashable = None
    awaited_since = 0.0

    @abstractmethod
    def awaited(self) -> Hashable:
        """Return what the server waits for, an equal value while it is the same thing; None while it does not wait."""

    @abstractmethod
    def eviction_rank(self) -> int | None:
        """Return the connection's place in the order of eviction: 0 is first; None means that it is not evicted."""

    @abstractmethod
    def reject(self, status: int, message: str) -> None:
        """Send an error outside of any request, unless a response has begun, and close the connection."""

    @abstractmethod
    def close_after_response(self) -> None:
        """Close the connection after the next response."""

    @abstractmethod
    def abort(self) -> None:
        """Close the connection at once and discard what is still to be sent."""

    @abstractmethod
    def shut_down(self) -> None:
        """Close the connection once what has begun is answered."""

    @abstractmethod
    def has_unread_response(self) -> bool:
        """Whether the server waits for the client to read a response."""


class Connections:
    """All open connections. When there are ``max_connections``, a new one replaces one that is idle."""

    def __init__(self, max_connections: int, client_seconds: float, metrics: Metrics) -> None:
        self._max_connections = max_connections
        self._client_seconds = client_seconds
        self._dropped = metrics.dropped_connections
        # In the order in which they were opened.
        self._unix: dict[Connection, None] = {}
        self._tcp: dict[Connection, None] = {}
        metrics.connections.set_function(lambda: len(self._unix) + len(self._tcp))

    def add(self, connection: Connection) -> None:
        """Register a new connection, or reject it when too many others have a request in progress."""
        if connection.from_unix_socket:
            self._unix[connection] = None
            return
        if len(self._tcp) >= self._max_connections:
            victim = self._first_to_evict()
            self._dropped.labels("crowded").inc()
            if victim is None:
                connection.reject(
                    Connection.CROWDED, f"busy: {self._max_connections} connections are at work; try again"
                )
                return
            del self._tcp[victim]
            victim.abort()
        self._tcp[connection] = None

    def remove(self, connection: Connection) -> None:
        """Unregister a connection that was closed."""
        self._unix.pop(connection, None)
        self._tcp.pop(connection, None)

    def renew_tcp(self) -> None:
        """Make every TCP client reconnect, without failing a request."""
        for connection in self._tcp:
            connection.close_after_response()

    def drop_slow(self, now: float) -> None:
        """Close connections that have kept the server waiting for one thing for ``client_seconds``, and those that have
        been idle for ``KEEP_ALIVE_SECONDS``. Call it often."""
        for connection in [*self._unix, *self._tcp]:
            awaited = connection.awaited()
            if awaited is None and connection.idle_since is not None:
                if now - connection.idle_since >= KEEP_ALIVE_SECONDS:
                    connection.shut_down()
            elif awaited is None or awaited != connection.last_awaited:
                connection.last_awaited, connection.awaited_since = awaited, now
            elif now - connection.awaited_since >= self._client_seconds:
                self._dropped.labels("slow").inc()
                if connection.has_unread_response():
                    connection.abort()
                else:
                    message = f"expected the rest of the request within {self._client_seconds:g} s"
                    connection.reject(Connection.SLOW, message)

    def _first_to_evict(self) -> Connection | None:
        best: tuple[int, Connection] | None = None
        for connection in self._tcp:
            rank = connection.eviction_rank()
            if rank == 0:
                return connection
            if rank is not None and (best is None or rank < best[0]):
                best = (rank, connection)
        return best[1] if best else None
