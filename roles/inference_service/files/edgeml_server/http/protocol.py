# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""HTTP/1.1 connections: requests from one of two parsers, their responses in the order of the requests.

httptools (C) parses, or h11 (Python) where that is not installed. With httptools, a body of known length is read
straight into the memory that it is used in. A response is written by one call.
"""

from __future__ import annotations

import asyncio
import http
import socket
import time
from abc import abstractmethod
from collections import deque
from collections.abc import Hashable
from typing import Any, Awaitable, Callable, cast

from edgeml_server.common import json_codec

from .connections import Connection, Connections
from .exchange import Exchange, Source
from .limits import MAX_HEADER_BYTES
from .messages import Response

_STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode("ascii") for status in http.HTTPStatus
}
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_INVALID = "Invalid HTTP request received."
# Every connection reads into the same memory: what is in it has been taken out before the next one reads.
_SCRATCH = memoryview(bytearray(64 << 10))
# A larger body is written from where it is.
_JOINED_BYTES_MAX = 16 << 10

Answer = Callable[[Exchange], Awaitable["Response | None"]]


class OpenConnections:
    """What the connections of a server share: who answers requests, the limits, and the connections and tasks that are
    open."""

    def __init__(self, answer: Answer, limits: Connections) -> None:
        self.answer = answer
        self.limits = limits
        self.all: set[ServerProtocol] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.date = b""
        """The value of the field Date."""
        self._closed = asyncio.Event()

    def remove(self, connection: ServerProtocol) -> None:
        """Forget a connection that was closed."""
        self.all.discard(connection)
        self._closed.set()

    async def wait_ended(self) -> None:
        """Wait until no connection is open and nothing is being answered."""
        while self.all:
            self._closed.clear()
            await self._closed.wait()
        if self.tasks:
            await asyncio.wait(self.tasks)


class ServerProtocol(asyncio.BufferedProtocol, Connection, Source):
    """One connection. A subclass has the parser, and calls ``begin``, ``Exchange.add`` and ``Exchange.end``."""

    transport: asyncio.Transport

    def __init__(self, shared: OpenConnections) -> None:
        self._shared = shared
        self._loop = asyncio.get_running_loop()
        self._newest: Exchange | None = None
        self._current: Exchange | None = None
        self._waiting: deque[Exchange] = deque()
        self._reading_paused = False
        self._writing_paused = False
        self._is_broken = False
        self._closes_after_response = False

    # ---- the transport's calls ----

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's have another base.
        self.transport = cast("asyncio.Transport", transport)
        self.from_unix_socket = transport.get_extra_info("socket").family == socket.AF_UNIX
        self._is_tls = transport.get_extra_info("sslcontext") is not None
        self._shared.all.add(self)
        self._shared.limits.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._shared.limits.remove(self)
        self._shared.remove(self)
        if self._newest is not None:
            self._newest.abandon()
        self._waiting.clear()

    def eof_received(self) -> bool:
        """Answer a client that has shut down its sending side (except over TLS, which does not allow it)."""
        newest = self._newest
        if newest is None or not newest.is_received or newest.is_answered:
            return False
        newest.keep_alive = False
        return not self._is_tls

    def get_buffer(self, sizehint: int) -> memoryview:
        return _SCRATCH

    def buffer_updated(self, nbytes: int) -> None:
        self.idle_since = None
        if not self._is_broken:
            self.parse(_SCRATCH[:nbytes])

    @abstractmethod
    def parse(self, data: memoryview) -> None:
        """Parse what the client has sent."""

    def pause_writing(self) -> None:
        self._writing_paused = True

    def resume_writing(self) -> None:
        self._writing_paused = False
        self._start_next()

    # ---- requests and responses ----

    def begin(self, exchange: Exchange) -> None:
        """Take a request whose header is complete."""
        self._newest = exchange
        self.idle_since = None
        if self._closes_after_response:
            exchange.keep_alive = False
        self._waiting.append(exchange)
        if self._current is None and not self._writing_paused:
            self._start_next()
        else:
            self.pause_reading()

    def _start_next(self) -> None:
        if self._waiting and self._current is None and not self._writing_paused:
            self._current = self._waiting.popleft()
            task = self._loop.create_task(self._answer(self._current))
            self._shared.tasks.add(task)
            task.add_done_callback(self._shared.tasks.discard)

    async def _answer(self, exchange: Exchange) -> None:
        response = await self._shared.answer(exchange)
        if response is None or self._is_closing():
            return
        # The client sends the body in any case, or waits in vain to be told to: nobody knows.
        if exchange.expects_continue and not exchange.is_received:
            exchange.keep_alive = False
        self.respond(exchange, response)
        exchange.is_answered = True
        self._current = None
        if not exchange.keep_alive:
            self.transport.close()
            return
        if not self._waiting:
            self.idle_since = time.monotonic()
        self.resume_reading()
        self.after_response()
        self._start_next()

    def respond(self, exchange: Exchange, response: Response) -> None:
        """Write the response."""
        body = b"" if exchange.method == "HEAD" else response.body
        fields = b"".join([b"%b: %b\r\n" % field for field in response.headers])
        head = b"%bdate: %b\r\ncontent-type: %b\r\ncontent-length: %d\r\n%b%b\r\n" % (
            _STATUS_LINES[response.status],
            self._shared.date,
            response.content_type,
            len(response.body),
            fields,
            b"" if exchange.keep_alive else b"connection: close\r\n",
        )
        if len(body) <= _JOINED_BYTES_MAX:
            self.transport.write(head + body)
        else:
            self.transport.writelines([head, body])

    def after_response(self) -> None:
        """Parse what has waited for the response."""

    def pause_reading(self) -> None:
        if not self._reading_paused and not self._is_closing():
            self._reading_paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if self._reading_paused and not self._is_closing():
            self._reading_paused = False
            self.transport.resume_reading()

    def read_body(self, exchange: Exchange) -> None:
        if exchange.expects_continue and not self._is_closing():
            exchange.expects_continue = False
            self.send_continue()
        self.resume_reading()

    def send_continue(self) -> None:
        """Tell the client to send the body."""
        self.transport.write(_CONTINUE)

    # ---- the limits' calls ----

    def awaited(self) -> Hashable:
        newest = self._newest
        if self.has_unread_response():
            return (newest, "reply")
        if newest is None or newest.is_answered:
            return (newest, "header") if self.idle_since is None else None
        return None if newest.is_received else (newest, "body")

    def has_unread_response(self) -> bool:
        try:
            return self.transport.get_write_buffer_size() > 0
        except AttributeError:
            return False

    def _is_closing(self) -> bool:
        try:
            return self.transport.is_closing()
        except AttributeError:
            # Before Python 3.11, asyncio's TLS forgets a connection shortly before it says that it is lost.
            return True

    def eviction_rank(self) -> int | None:
        if self._newest is None:
            return 0
        if self.awaited() is not None:
            return 1
        return 2 if self._newest.is_answered else None

    def refuse(self, too_long: bool = False) -> None:
        """Answer what is no HTTP, and read nothing more."""
        self._is_broken = True
        newest = self._newest
        if newest is not None and newest.is_received and not newest.is_answered:
            # The request before this one is valid: it is answered, and then the connection is closed.
            newest.keep_alive = False
        else:
            self.reject(431 if too_long else 400, _INVALID)

    def reject(self, status: int, message: str) -> None:
        body = json_codec.dumps({"error": message})
        lines = [
            _STATUS_LINES[status] + b"content-type: application/json",
            b"content-length: %d" % len(body),
            b"connection: close",
        ]
        if status == http.HTTPStatus.SERVICE_UNAVAILABLE:
            lines.append(b"retry-after: 1")
        self._is_broken = True
        self.transport.write(b"\r\n".join([*lines, b"", body]))
        self.transport.close()

    def close_after_response(self) -> None:
        self._closes_after_response = True

    def abort(self) -> None:
        self.transport.abort()

    def shut_down(self) -> None:
        """Close the connection, after the responses to the requests that have begun."""
        if self._newest is None or self._newest.is_answered:
            self.transport.close()
        else:
            self._newest.keep_alive = False


def protocol_class() -> type[ServerProtocol]:
    """Return the fastest protocol that is installed, httptools (C) or h11 (Python)."""
    try:
        return _httptools_protocol()
    except ImportError:
        return _h11_protocol()


def _httptools_protocol() -> type[ServerProtocol]:
    import httptools

    class HttpToolsProtocol(ServerProtocol):
        """Ignores ``Upgrade``, and limits the memory for an incomplete header or trailer.

        httptools ends a request that asks for another protocol, as Java's HttpClient does by default, with its header,
        and reads its body as the next request. So the header is parsed again, without that field.
        """

        def __init__(self, shared: OpenConnections) -> None:
            super().__init__(shared)
            self._parser = self._new_parser()
            self._url = b""
            self._fields: list[tuple[bytes, bytes]] = []
            self._unfinished_bytes = 0
            self._asks_for_upgrade = False
            self._unparsed_bytes = 0

        def get_buffer(self, sizehint: int) -> memoryview:
            if not self._unparsed_bytes:
                return _SCRATCH
            assert self._newest is not None
            rest = self._newest.rest
            return _SCRATCH[: self._unparsed_bytes] if rest is None else rest

        def buffer_updated(self, nbytes: int) -> None:
            if not self._unparsed_bytes:
                super().buffer_updated(nbytes)
                return
            assert self._newest is not None
            self.idle_since = None
            self._unparsed_bytes -= nbytes
            self._newest.placed(nbytes)
            if not self._unparsed_bytes:
                self._parser = self._new_parser()
                self._newest.end()

        def read_body(self, exchange: Exchange) -> None:
            # What comes until the end of this body needs no parser, and the next request gets a new one.
            self._unparsed_bytes = exchange.rest_bytes
            super().read_body(exchange)

        def parse(self, data: memoryview) -> None:
            self._unfinished_bytes += len(data)
            try:
                self._parse(data)
            except httptools.HttpParserError:
                self.refuse()
                return
            if self._unfinished_bytes > MAX_HEADER_BYTES:
                self.reject(431, f"expected a header of at most {MAX_HEADER_BYTES} bytes; found more")

        def _parse(self, data: memoryview) -> None:
            rest = data
            while True:
                try:
                    self._parser.feed_data(rest)
                    return
                except httptools.HttpParserUpgrade as upgrade:
                    rest = rest[upgrade.args[0] :]
                if not self._asks_for_upgrade:
                    # CONNECT: its response closes the connection, whatever follows.
                    return
                self._asks_for_upgrade = False
                method, version = self._parser.get_method(), self._parser.get_http_version().encode("ascii")
                lines = [b"%b %b HTTP/%b" % (method, self._url, version)]
                lines += [b"%b: %b" % field for field in self._fields if field[0] != b"upgrade"]
                self._parser = self._new_parser()
                self._parser.feed_data(b"\r\n".join([*lines, b"", b""]))

        def _new_parser(self) -> Any:
            parser = httptools.HttpRequestParser(self)
            # A request behind one that says it is the last must not keep that one from being answered.
            parser.set_dangerous_leniencies(lenient_data_after_close=True)
            return parser

        # ---- the parser's calls ----

        def on_message_begin(self) -> None:
            self._url = b""
            self._fields = []

        def on_url(self, url: bytes) -> None:
            self._url += url

        def on_header(self, name: bytes, value: bytes) -> None:
            self._fields.append((name.lower(), value))

        def on_headers_complete(self) -> None:
            self._unfinished_bytes = 0
            parser = self._parser
            method = parser.get_method()
            self._asks_for_upgrade = parser.should_upgrade() and method != b"CONNECT"
            if self._asks_for_upgrade:
                return
            version = parser.get_http_version()
            self.begin(
                Exchange(
                    self,
                    method=method.decode("ascii"),
                    target=self._url,
                    version=version,
                    fields=self._fields,
                    from_unix_socket=self.from_unix_socket,
                    keep_alive=version != "1.0" and parser.should_keep_alive(),
                )
            )

        def on_body(self, body: bytes) -> None:
            self._unfinished_bytes = 0
            assert self._newest is not None
            self._newest.add(body)

        def on_message_complete(self) -> None:
            if not self._asks_for_upgrade and self._newest is not None:
                self._newest.end()

    return HttpToolsProtocol


def _h11_protocol() -> type[ServerProtocol]:
    import h11

    class H11Protocol(ServerProtocol):
        """h11 itself limits an incomplete header."""

        def __init__(self, shared: OpenConnections) -> None:
            super().__init__(shared)
            self._h11 = h11.Connection(h11.SERVER, MAX_HEADER_BYTES)

        def parse(self, data: memoryview) -> None:
            self._h11.receive_data(bytes(data))
            self._take_events()

        def _take_events(self) -> None:
            while True:
                try:
                    event = self._h11.next_event()
                except h11.RemoteProtocolError as error:
                    self.refuse(too_long=error.error_status_hint == 431)
                    return
                if event is h11.PAUSED:
                    self.pause_reading()
                    return
                if event is h11.NEED_DATA or isinstance(event, h11.ConnectionClosed):
                    return
                self._take(event)

        def _take(self, event: Any) -> None:
            if isinstance(event, h11.Request):
                fields = list(event.headers)
                version = event.http_version.decode("ascii")
                connection = b",".join([value for name, value in fields if name == b"connection"]).lower()
                is_last = b"close" in [token.strip() for token in connection.split(b",")]
                self.begin(
                    Exchange(
                        self,
                        method=event.method.decode("ascii"),
                        target=event.target,
                        version=version,
                        fields=fields,
                        from_unix_socket=self.from_unix_socket,
                        keep_alive=version != "1.0" and not is_last,
                    )
                )
                return
            assert self._newest is not None
            if isinstance(event, h11.Data):
                self._newest.add(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                self._newest.end()
                if self._newest.is_answered and self._h11.our_state is h11.DONE:
                    self._h11.start_next_cycle()

        def respond(self, exchange: Exchange, response: Response) -> None:
            """Write the response; h11 must see it, too."""
            super().respond(exchange, response)
            fields = [(b"content-length", b"%d" % len(response.body))]
            if not exchange.keep_alive:
                fields.append((b"connection", b"close"))
            self._h11.send(h11.Response(status_code=response.status, headers=fields))
            if exchange.method != "HEAD":
                self._h11.send(h11.Data(data=response.body))
            self._h11.send(h11.EndOfMessage())

        def after_response(self) -> None:
            if self._h11.our_state is h11.MUST_CLOSE:
                self.transport.close()
            elif self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE:
                self._h11.start_next_cycle()
                self._take_events()

        def send_continue(self) -> None:
            super().send_continue()
            self._h11.send(h11.InformationalResponse(status_code=100, headers=[]))

    return H11Protocol
