# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""One HTTP/1.1 request over a connection of its own.

Not ``http.client``: that imports ``email`` and ``ssl``, and on a small board the import takes longer than all else that
a call of the device's command does.
"""

from __future__ import annotations

import socket
import time
from typing import Mapping

_LINE_BYTES_MAX = 64 << 10
_HEADERS_MAX = 100


class HttpError(Exception):
    """What came back is no HTTP reply, or not all of one."""


class TooLargeError(HttpError):
    """The reply's body is longer than is allowed."""


def exchange(
    connection: socket.socket, method: str, url: str, headers: Mapping[str, str], body: bytes, limits: tuple[int, float]
) -> tuple[int, bytes, dict[str, str]]:
    """Send a request and return the reply's status, body and headers, their names in lower case.

    ``limits``: the body's most bytes, and the most seconds that sending may take, and then all of the reply.

    Raises HttpError for what is no reply, TooLargeError, and OSError (TimeoutError included) when the connection fails.
    """
    bytes_max, seconds = limits
    if not url.isprintable() or not url.isascii() or " " in url:
        raise HttpError(f"expected a URL without spaces and control characters; found {url[:80]!r}")
    connection.settimeout(seconds)
    lines = [f"{method} {url} HTTP/1.1", "Connection: close", *(f"{name}: {value}" for name, value in headers.items())]
    if body or method == "POST":
        lines.append(f"Content-Length: {len(body)}")
    connection.sendall("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
    return _Reader(connection, bytes_max, seconds).reply()


class _Reader:
    """Reads one reply from a connection."""

    def __init__(self, connection: socket.socket, bytes_max: int, seconds: float) -> None:
        self._connection = connection
        self._bytes_max = bytes_max
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds
        self._received = bytearray()

    def reply(self) -> tuple[int, bytes, dict[str, str]]:
        """The final status, the body and the headers."""
        status = 100
        while 100 <= status < 200:
            status = self._status()
            headers = self._headers()
        if "chunked" in headers.get("transfer-encoding", "").lower():
            return status, self._chunks(), headers
        if status in (204, 304):
            return status, b"", headers
        if "content-length" in headers:
            return status, self._exactly(_number(headers["content-length"], 10)), headers
        return status, self._rest(), headers

    def _status(self) -> int:
        line = self._line(first=True)
        words = line.split(None, 2)
        if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or len(words[1]) != 3 or not words[1].isdigit():
            raise HttpError(f"expected an HTTP reply; found {line[:80]!r}")
        return int(words[1])

    def _headers(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        for _number_of_lines in range(_HEADERS_MAX):
            line = self._line().decode("latin-1")
            if not line:
                return headers
            name, _colon, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        raise HttpError(f"expected at most {_HEADERS_MAX} headers; found more")

    def _chunks(self) -> bytes:
        body = bytearray()
        while True:
            size = _number(self._line().split(b";")[0].decode("latin-1"), 16)
            if size == 0:
                self._headers()
                return bytes(body)
            self._allow(len(body) + size)
            body += self._exactly(size)
            if self._line():
                raise HttpError("expected the end of a chunk; found more")

    def _line(self, first: bool = False) -> bytes:
        while b"\n" not in self._received:
            if len(self._received) > _LINE_BYTES_MAX:
                raise HttpError(
                    f"expected lines of at most {_LINE_BYTES_MAX} bytes; found {bytes(self._received[:80])!r}"
                )
            if not self._receive():
                nothing = first and not self._received
                raise HttpError(
                    "the server hung up without an answer" if nothing else "the server hung up in its answer"
                )
        line, _end, rest = self._received.partition(b"\n")
        self._received = rest
        return bytes(line.rstrip(b"\r"))

    def _exactly(self, size: int) -> bytes:
        self._allow(size)
        while len(self._received) < size:
            if not self._receive():
                raise HttpError(f"the reply ends after {len(self._received)} of {size} bytes")
        found = bytes(self._received[:size])
        del self._received[:size]
        return found

    def _rest(self) -> bytes:
        self._allow(len(self._received))
        while self._receive():
            self._allow(len(self._received))
        return bytes(self._received)

    def _receive(self) -> bool:
        """Wait for more; False at the end of the connection."""
        left = self._deadline - time.monotonic()
        try:
            if left <= 0:
                raise socket.timeout
            self._connection.settimeout(left)
            chunk = self._connection.recv(1 << 16)
        # Before Python 3.10 it is no TimeoutError.
        except socket.timeout as error:
            raise TimeoutError(f"the reply has no end after {self._seconds:g} s") from error
        self._received += chunk
        return bool(chunk)

    def _allow(self, size: int) -> None:
        if size > self._bytes_max:
            raise TooLargeError(f"expected at most {self._bytes_max} bytes; found more")


def _number(text: str, base: int) -> int:
    digits = text.strip()
    if not (digits.isascii() and digits.isalnum()):
        raise HttpError(f"expected a length; found {text[:80]!r}")
    try:
        return int(digits, base)
    except ValueError as error:
        raise HttpError(f"expected a length; found {text[:80]!r}") from error
