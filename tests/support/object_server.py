# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A web server of objects that answers as it is told: honestly, or as bad servers, caches and portals do."""

from __future__ import annotations

import contextlib
import gzip
import re
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_REASONS = {200: "OK", 206: "Partial Content", 302: "Found", 404: "Not Found", 503: "Service Unavailable"}


@dataclass(frozen=True)
class Asked:
    """A request: its target, and its headers with names in lower case."""

    target: str
    headers: Mapping[str, str]

    @property
    def start(self) -> int:
        """The first byte that is asked for."""
        return self._range()[0]

    @property
    def end(self) -> int:
        """The end of what is asked for."""
        return self._range()[1] + 1

    def _range(self) -> tuple[int, int]:
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["range"])
        assert match is not None, f"expected one range; found {self.headers['range']}"
        return int(match[1]), int(match[2])


class Exchange:
    """One request, and what is sent for it."""

    def __init__(self, server: ObjectServer, connection: socket.socket, asked: Asked) -> None:
        self.asked = asked
        self.content = server.objects.get(asked.target.rpartition("/")[2], b"")
        self.keeps_open = False
        self._server, self._connection = server, connection

    def head(self, status: int, **headers: Any) -> None:
        """Send a status and headers; in their names ``_`` stands for ``-``."""
        lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items() if value is not None]
        text = "\r\n".join([f"HTTP/1.1 {status} {_REASONS.get(status, 'Status')}", *lines, "", ""])
        self._connection.sendall(text.encode())

    def send(self, content: bytes) -> None:
        """Send a part of a body."""
        rest = memoryview(content)
        while rest:
            count = self._connection.send(rest[: 16 << 10])
            self._server.sent += count
            rest = rest[count:]

    def wait(self) -> None:
        """Send nothing until the client hangs up, or the server ends."""
        with contextlib.suppress(OSError):
            while not self._server.ended.is_set():
                self._connection.settimeout(0.05)
                with contextlib.suppress(socket.timeout):
                    if not self._connection.recv(1):
                        return


Behaviour = Callable[[Exchange], None]


class ObjectServer:
    """Serves ``objects`` by their digests; use it as a context manager.

    Each request is answered by the next behaviour of ``script``; the last one stays. ``sent`` counts the bytes of
    bodies, ``asked`` has all requests. Those for an index of deltas are apart: in ``indexes`` is one by the file's
    digest, ``answer_index`` answers, and ``asked_indexes`` has them. So has ``asked_heads`` those by HEAD. ``tls`` is
    the file of the server's certificate and key, for HTTPS.
    """

    def __init__(
        self, objects: Mapping[str, bytes], *script: Behaviour, host: str = "127.0.0.1", tls: Path | None = None
    ) -> None:
        self.objects = dict(objects)
        self.script = list(script) or [honest()]
        self.asked: list[Asked] = []
        self.indexes: dict[str, bytes] = {}
        self.answer_index: Behaviour = document
        self.asked_indexes: list[Asked] = []
        self.asked_heads: list[Asked] = []
        self.sent = 0
        self.connections = 0
        self.ended = threading.Event()
        outer = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                outer.connections += 1
                with contextlib.suppress(OSError):
                    while outer._answer(self.connection, self.rfile):
                        pass

        class Server(socketserver.ThreadingTCPServer):
            address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
            allow_reuse_address = True
            daemon_threads = True

        context = None
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls)
        self._server = Server((host, 0), Handler)
        self._server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 << 10)
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port: int = self._server.server_address[1]
        self.url = f"http{'s' if tls else ''}://{f'[{host}]' if ':' in host else host}:{self.port}"

    def __enter__(self) -> ObjectServer:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, connection: socket.socket, lines: Any) -> bool:
        first = lines.readline().decode()
        if not first.strip():
            return False
        exchange = Exchange(self, connection, Asked(first.split()[1], _headers(lines)))
        if first.startswith("HEAD "):
            self.asked_heads.append(exchange.asked)
            exchange.head(200 if exchange.content else 404, Content_Length=len(exchange.content))
            return True
        if exchange.asked.target.endswith("/index.json"):
            exchange.content = self.indexes.get(exchange.asked.target.split("/")[-2], b"")
            self.asked_indexes.append(exchange.asked)
            self.answer_index(exchange)
            return exchange.keeps_open
        self.asked.append(exchange.asked)
        behaviour = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        behaviour(exchange)
        return exchange.keeps_open


def honest(cut: int | None = None) -> Behaviour:
    """The range that is asked for; ``cut``: the connection ends after so many bytes."""

    def answer(exchange: Exchange) -> None:
        content = exchange.content
        if not content:
            return status(404)(exchange)
        start, end = exchange.asked.start, exchange.asked.end
        body = content[start:end]
        whole = f"bytes {start}-{end - 1}/{len(content)}"
        exchange.head(206, Content_Range=whole, Content_Length=len(body))
        exchange.send(body[:cut])
        exchange.keeps_open = cut is None
        return None

    return answer


def document(exchange: Exchange) -> None:
    """A file whose size nobody knows."""
    if not exchange.content:
        return status(404)(exchange)
    exchange.head(200, Content_Length=len(exchange.content), Content_Type="application/json")
    exchange.send(exchange.content)
    exchange.keeps_open = True
    return None


def interim(then: Behaviour, *codes: int) -> Behaviour:
    """Answers that are none yet, and behind them ``then``."""

    def answer(exchange: Exchange) -> None:
        for code in codes:
            exchange.head(code, Link="</style.css>; rel=preload")
        then(exchange)

    return answer


def whole(cut: int | None = None, length: int | None = None, kind: str = "application/octet-stream") -> Behaviour:
    """The whole object, whatever is asked for; ``length``: what Content-Length says, 0 for nothing."""

    def answer(exchange: Exchange) -> None:
        told = len(exchange.content) if length is None else length or None
        exchange.head(200, Content_Length=told, Content_Type=kind)
        exchange.send(exchange.content[:cut])

    return answer


def status(code: int, **headers: Any) -> Behaviour:
    """A reply without the object."""

    def answer(exchange: Exchange) -> None:
        exchange.head(code, Content_Length=0, **headers)
        exchange.keeps_open = True

    return answer


def ranged(first: int = 0, last: int = 0, size: int = 0, text: str | None = None) -> Behaviour:
    """A part whose Content-Range is off by so much, or is ``text``."""

    def answer(exchange: Exchange) -> None:
        start, total = exchange.asked.start, len(exchange.content)
        told = text if text is not None else f"bytes {start + first}-{total - 1 + last}/{total + size}"
        exchange.head(206, Content_Range=told or None, Content_Length=total - start)
        exchange.send(exchange.content[start:])

    return answer


def page(exchange: Exchange) -> None:
    """A captive portal's: 200 for everything."""
    body = b"<html>Please log in</html>" * 100
    exchange.head(200, Content_Type="text/html", Content_Length=len(body))
    exchange.send(body)


def page_without_length(exchange: Exchange) -> None:
    """The same, and only the end of the connection ends it."""
    exchange.head(200, Content_Type="text/html; charset=utf-8")
    exchange.send(b"<html>Please log in</html>" * 100)


def packed(exchange: Exchange) -> None:
    """What a proxy makes that compresses everything."""
    body = gzip.compress(exchange.content, compresslevel=0)
    exchange.head(200, Content_Encoding="gzip", Content_Length=len(body))
    exchange.send(body)


def several_parts(exchange: Exchange) -> None:
    """Parts in an envelope, for one range."""
    body = b"--x\r\nContent-Range: bytes 0-9/10\r\n\r\n" + exchange.content + b"\r\n--x--\r\n"
    exchange.head(206, Content_Type="multipart/byteranges; boundary=x", Content_Length=len(body))
    exchange.send(body)


def wrong(exchange: Exchange) -> None:
    """Other bytes of the right number."""
    start = exchange.asked.start
    body = bytes(byte ^ 1 for byte in exchange.content[start : start + 64]) + exchange.content[start + 64 :]
    total = len(exchange.content)
    exchange.head(206, Content_Range=f"bytes {start}-{total - 1}/{total}", Content_Length=len(body))
    exchange.send(body)


def silent(exchange: Exchange) -> None:
    """Takes the request, and says nothing."""
    exchange.wait()


def stalling(after: int) -> Behaviour:
    """Sends so many bytes, and then nothing."""

    def answer(exchange: Exchange) -> None:
        start, total = exchange.asked.start, len(exchange.content)
        exchange.head(206, Content_Range=f"bytes {start}-{total - 1}/{total}", Content_Length=total - start)
        exchange.send(exchange.content[start : start + after])
        exchange.wait()

    return answer


def chunked(exchange: Exchange) -> None:
    """The range in chunks, without a length."""
    start, total = exchange.asked.start, len(exchange.content)
    exchange.head(206, Content_Range=f"bytes {start}-{total - 1}/{total}", Transfer_Encoding="chunked")
    for begin in range(start, total, 100_000):
        body = exchange.content[begin : begin + 100_000]
        exchange.send(f"{len(body):x}\r\n".encode() + body + b"\r\n")
    exchange.send(b"0\r\n\r\n")
    exchange.keeps_open = True


def chattering(exchange: Exchange) -> None:
    """No reply of HTTP at all."""
    exchange.send(b"SSH-2.0-OpenSSH_9.2\r\n")


def hanging_up(exchange: Exchange) -> None:
    """Ends the connection in place of a reply."""


class ConnectProxy:
    """A proxy for HTTPS, which reads the target of CONNECT as RFC 9112 writes it; use it as a context manager.

    ``answers`` are the status codes that it answers with, one after the other; ``asked`` has all requests.
    """

    def __init__(self, *answers: int) -> None:
        self.answers = answers
        self.asked: list[Asked] = []
        outer = self

        class Handler(socketserver.StreamRequestHandler):
            # What is read beyond the headers would not reach the server.
            rbufsize = 0

            def handle(self) -> None:
                with contextlib.suppress(OSError):
                    outer._connect(self.connection, self.rfile)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> ConnectProxy:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _connect(self, client: socket.socket, lines: Any) -> None:
        method, target, _version = lines.readline().decode().split()
        self.asked.append(Asked(target, _headers(lines)))
        match = re.fullmatch(r"(?:\[([0-9a-f:]+)\]|([^:]+)):(\d+)", target)
        answers = self.answers if method == "CONNECT" and match is not None else (400,)
        for code in answers:
            client.sendall(f"HTTP/1.1 {code} {_REASONS.get(code, 'Status')}\r\nVia: 1.1 proxy\r\n\r\n".encode())
        if match is None or answers[-1] != 200:
            return
        with socket.create_connection((match[1] or match[2], int(match[3]))) as server:
            threading.Thread(target=_pass_on, args=(server, client), daemon=True).start()
            _pass_on(client, server)


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while chunk := source.recv(64 << 10):
            target.sendall(chunk)
        target.shutdown(socket.SHUT_WR)


def _headers(lines: Any) -> dict[str, str]:
    headers = {}
    while line := lines.readline().decode().strip():
        name, _colon, value = line.partition(":")
        headers[name.lower()] = value.strip()
    return headers


@contextlib.contextmanager
def serving(objects: Mapping[str, bytes], *scripts: tuple[Behaviour, ...]) -> Iterator[list[ObjectServer]]:
    """A server for each script."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(ObjectServer(objects, *script)) for script in scripts]
