# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Uvicorn's HTTP/1.1 protocols, extended by connection limits and by errors in JSON."""

from __future__ import annotations

import asyncio
import http
import socket
import sys
from collections.abc import Hashable
from typing import Any

from edgeml_server.common import json_codec

from .connections import Connection, Connections
from .limits import MAX_HEADER_BYTES
from .messages import CLOSE_AFTER_RESPONSE, FROM_UNIX_SOCKET


class _ServerProtocol(asyncio.Protocol, Connection):
    """Marks requests with their listener, registers connections with the limits, and rejects bad requests in JSON."""

    connections_open: Connections
    app_state: dict[str, Any]
    transport: asyncio.Transport
    cycle: Any
    timeout_keep_alive_task: asyncio.TimerHandle | None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.from_unix_socket = transport.get_extra_info("socket").family == socket.AF_UNIX
        self.app_state = {FROM_UNIX_SOCKET: self.from_unix_socket}
        self.connections_open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.connections_open.remove(self)
        super().connection_lost(exc)

    def eof_received(self) -> Any:
        """Answer a client that has shut down its sending side (except over TLS, which does not allow it)."""
        if self.cycle is None or self.cycle.more_body or self.cycle.response_complete:
            return False
        self.cycle.keep_alive = False
        return self.transport.get_extra_info("sslcontext") is None

    def awaited(self) -> Hashable:
        cycle = self.cycle
        if self.has_unread_response():
            return (cycle, "reply")
        if cycle is None or cycle.response_complete:
            return (cycle, "header") if self.timeout_keep_alive_task is None else None
        return (cycle, "body") if cycle.more_body else None

    def has_unread_response(self) -> bool:
        return self.transport.get_write_buffer_size() > 0

    def eviction_rank(self) -> int | None:
        if self.cycle is None:
            return 0
        if self.awaited() is not None:
            return 1
        return 2 if self.cycle.response_complete else None

    def send_400_response(self, msg: str) -> None:
        cycle = self.cycle
        if cycle is not None and not (cycle.more_body or cycle.response_complete):
            # The request before this one is valid: it is answered, and then the connection is closed.
            cycle.keep_alive = False
        else:
            too_long = getattr(sys.exc_info()[1], "error_status_hint", 400) == 431
            self.reject(431 if too_long else 400, msg)

    def reject(self, status: int, message: str) -> None:
        cycle = self.cycle
        if cycle is None or cycle.response_complete or not cycle.response_started:
            body = json_codec.dumps({"error": message})
            lines = [
                b"HTTP/1.1 %d %b" % (status, http.HTTPStatus(status).phrase.encode("ascii")),
                b"content-type: application/json",
                b"content-length: %d" % len(body),
                b"connection: close",
            ]
            if status == http.HTTPStatus.SERVICE_UNAVAILABLE:
                lines.append(b"retry-after: 1")
            self.transport.write(b"\r\n".join([*lines, b"", body]))
        self.transport.close()

    def close_after_response(self) -> None:
        self.app_state[CLOSE_AFTER_RESPONSE] = True

    def abort(self) -> None:
        self.transport.abort()


def protocol_class(connections: Connections) -> type[asyncio.Protocol]:
    """Return the fastest protocol that is installed, httptools (C) or h11 (Python), bound to ``connections``."""
    try:
        import httptools
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
    except ImportError:
        return _h11_protocol(connections)

    class HttpToolsServerProtocol(_ServerProtocol, HttpToolsProtocol):
        """Ignores ``Upgrade``, and limits the memory for an incomplete header or trailer.

        httptools ends a request that asks for another protocol, as Java's HttpClient does by default, with its header,
        and reads its body as the next request. So the header is parsed again, without that field.
        """

        connections_open = connections
        _unfinished_bytes = 0
        _asks_for_upgrade = False

        def data_received(self, data: bytes) -> None:
            self._unfinished_bytes += len(data)
            self._unset_keepalive_if_required()
            try:
                self._parse(data)
            except httptools.HttpParserError:
                self.send_400_response("Invalid HTTP request received.")
                return
            if self._unfinished_bytes > MAX_HEADER_BYTES:
                self.reject(431, f"expected a header of at most {MAX_HEADER_BYTES} bytes; found more")

        def _parse(self, data: bytes) -> None:
            rest = memoryview(data)
            while True:
                try:
                    self.parser.feed_data(rest)
                    return
                except httptools.HttpParserUpgrade as upgrade:
                    rest = rest[upgrade.args[0] :]
                if not self._asks_for_upgrade:
                    # CONNECT: its response closes the connection, whatever follows.
                    return
                self._asks_for_upgrade = False
                method, version = self.parser.get_method(), self.parser.get_http_version().encode("ascii")
                lines = [b"%b %b HTTP/%b" % (method, self.url, version)]
                lines += [b"%b: %b" % field for field in self.headers if field[0] != b"upgrade"]
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
                self.parser.feed_data(b"\r\n".join([*lines, b"", b""]))

        def on_headers_complete(self) -> None:
            self._unfinished_bytes = 0
            self._asks_for_upgrade = self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT"
            if not self._asks_for_upgrade:
                super().on_headers_complete()

        def on_body(self, body: bytes) -> None:
            self._unfinished_bytes = 0
            super().on_body(body)

        def on_message_complete(self) -> None:
            if not self._asks_for_upgrade:
                super().on_message_complete()

    return HttpToolsServerProtocol


def _h11_protocol(connections: Connections) -> type[asyncio.Protocol]:
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class H11ServerProtocol(_ServerProtocol, H11Protocol):
        """h11 itself limits an incomplete header, to ``h11_max_incomplete_event_size`` of uvicorn's configuration."""

        connections_open = connections

    return H11ServerProtocol
