# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The open connections: how many there may be, and for how long a client may keep the server waiting."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable
from typing import ClassVar

from .metrics import Metrics


class Connection(ABC):
    """What the limits ask of a connection."""

    CROWDED: ClassVar[int] = 503
    SLOW: ClassVar[int] = 408

    local: bool
    """Whether it came by the Unix socket. Such connections are not counted: the device itself is always let in."""
    owed: Hashable = None
    owed_since = 0.0

    @abstractmethod
    def owes(self) -> Hashable:
        """What the server waits for, the same value as long as it is the same thing; None while it does not wait."""

    @abstractmethod
    def dispensable(self) -> int | None:
        """How ready the connection is to be closed for another: 0 at once, higher is later, None never."""

    @abstractmethod
    def refuse(self, status: int, message: str) -> None:
        """Answer outside of any request, if no reply has begun, and close."""

    @abstractmethod
    def end_soon(self) -> None:
        """Close after the next reply."""

    @abstractmethod
    def drop(self) -> None:
        """Close at once, whatever is still to be sent."""

    @abstractmethod
    def takes_reply(self) -> bool:
        """Whether the client owes the reading of a reply."""


class Connections:
    """All open connections. When there are ``most``, a new one takes the place of one that does nothing."""

    def __init__(self, most: int, client_seconds: float, metrics: Metrics) -> None:
        self._most = most
        self._client_seconds = client_seconds
        self._dropped = metrics.dropped_connections
        # In the order of their opening.
        self._local: dict[Connection, None] = {}
        self._remote: dict[Connection, None] = {}
        metrics.connections.set_function(lambda: len(self._local) + len(self._remote))

    def add(self, connection: Connection) -> None:
        """Note a new connection, or refuse it when there are too many at work."""
        if connection.local:
            self._local[connection] = None
            return
        if len(self._remote) >= self._most:
            victim = self._most_dispensable()
            self._dropped.labels("crowded").inc()
            if victim is None:
                connection.refuse(Connection.CROWDED, f"busy: {self._most} connections are at work; try again")
                return
            del self._remote[victim]
            victim.drop()
        self._remote[connection] = None

    def remove(self, connection: Connection) -> None:
        """Forget a connection that was closed."""
        self._local.pop(connection, None)
        self._remote.pop(connection, None)

    def end_remote(self) -> None:
        """Have every client over TCP connect anew, without a failed request."""
        for connection in self._remote:
            connection.end_soon()

    def drop_slow(self, now: float) -> None:
        """Close what has kept the server waiting for one and the same thing for ``client_seconds``. Call it often."""
        for connection in [*self._local, *self._remote]:
            owed = connection.owes()
            if owed is None or owed != connection.owed:
                connection.owed, connection.owed_since = owed, now
            elif now - connection.owed_since >= self._client_seconds:
                self._dropped.labels("slow").inc()
                if connection.takes_reply():
                    connection.drop()
                else:
                    message = f"expected the rest of the request within {self._client_seconds:g} s"
                    connection.refuse(Connection.SLOW, message)

    def _most_dispensable(self) -> Connection | None:
        best: tuple[int, Connection] | None = None
        for connection in self._remote:
            rank = connection.dispensable()
            if rank == 0:
                return connection
            if rank is not None and (best is None or rank < best[0]):
                best = (rank, connection)
        return best[1] if best else None
