# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a connection may be idle, and how long it may keep the server waiting."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Hashable
from typing import Any

from edgeml_server.http.connections import KEEP_ALIVE_SECONDS, Connection, Connections
from edgeml_server.http.exchange import Exchange
from edgeml_server.http.messages import Response
from edgeml_server.http.protocol import OpenConnections, protocol_class
from edgeml_server.observe.metrics import Metrics

CLIENT_SECONDS = 30


class Noted(Connection):
    """A connection that notes what is done to it."""

    from_unix_socket = False

    def __init__(self) -> None:
        self.done: list[str] = []
        self.waits_for: Hashable = None

    def awaited(self) -> Hashable:
        return self.waits_for

    def eviction_rank(self) -> int | None:
        return None

    def reject(self, status: int, message: str) -> None:
        self.done.append(f"{status}: {message}")

    def close_after_response(self) -> None:
        self.done.append("close after response")

    def abort(self) -> None:
        self.done.append("abort")

    def shut_down(self) -> None:
        self.done.append("shut down")

    def has_unread_response(self) -> bool:
        return False


def connected() -> tuple[Connections, Noted]:
    """A connection, and the limits that know it."""
    limits = Connections(10, CLIENT_SECONDS, Metrics(lambda: 0, lambda: 0))
    connection = Noted()
    limits.add(connection)
    return limits, connection


def test_an_idle_connection_is_closed_after_its_time() -> None:
    limits, connection = connected()
    connection.idle_since = 100.0
    limits.drop_slow(100.0 + KEEP_ALIVE_SECONDS - 1)
    assert connection.done == []
    limits.drop_slow(100.0 + KEEP_ALIVE_SECONDS)
    assert connection.done == ["shut down"]


def test_one_whose_request_is_answered_for_long_is_not_idle() -> None:
    limits, connection = connected()
    limits.drop_slow(0.0)
    limits.drop_slow(10_000.0)
    assert connection.done == []


def test_one_that_sends_nothing_more_of_its_request_is_rejected() -> None:
    limits, connection = connected()
    connection.waits_for = "body"
    limits.drop_slow(0.0)
    limits.drop_slow(CLIENT_SECONDS - 1.0)
    assert connection.done == []
    limits.drop_slow(CLIENT_SECONDS)
    assert connection.done == [f"408: expected the rest of the request within {CLIENT_SECONDS} s"]


class LostTls(asyncio.Transport):
    """Asyncio's TLS transport of Python 3.9 and 3.10, after its connection is lost and before it says so."""

    def __init__(self, tcp: socket.socket) -> None:
        super().__init__({"socket": tcp})

    def get_write_buffer_size(self) -> int:
        size: int = self._connection.get_write_buffer_size()
        return size

    def is_closing(self) -> bool:
        closing: bool = self._connection.is_closing()
        return closing

    @property
    def _connection(self) -> Any:
        return None


def test_one_that_is_lost_and_has_not_said_so_does_no_harm() -> None:
    async def answer(_exchange: Exchange) -> Response:
        return Response(b"{}")

    async def run() -> list[Hashable]:
        limits = Connections(10, CLIENT_SECONDS, Metrics(lambda: 0, lambda: 0))
        shared = OpenConnections(answer, limits)
        connection = protocol_class()(shared)
        with socket.socket() as tcp:
            connection.connection_made(LostTls(tcp))
            request = b"GET /v2 HTTP/1.1\r\nHost: device\r\n\r\n"
            connection.get_buffer(-1)[: len(request)] = request
            connection.buffer_updated(len(request))
            limits.drop_slow(0.0)
            await asyncio.gather(*shared.tasks)
            awaited = connection.awaited()
            connection.connection_lost(None)
            await asyncio.wait_for(shared.wait_ended(), 1)
        return [awaited]

    assert asyncio.run(run()) == [None]
