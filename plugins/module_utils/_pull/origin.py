# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Where a device looks: the newest ``timestamp.json`` of a source, and whether anything has to be done at all.

A poll that finds nothing imports no more than this: one GET, a comparison of its bytes, and no write.
"""

from __future__ import annotations

import os
import time
from typing import Any

from .._common.errors import EdgemlError
from .config import PullConfig
from .memory import PullState

TIMESTAMP = "metadata/timestamp.json"
TIMESTAMP_BYTES_MAX = 16_384
TIMESTAMP_LIFETIME_SECONDS = 14 * 86_400
# A link that brings nothing for so long brings nothing.
SILENCE_SECONDS = 30.0
# Clocks of controllers and devices differ by less.
_CLOCK_SECONDS = 86_400


class LinkError(EdgemlError):
    """A source or the mailbox cannot be reached now. That is no alarm: the device looks again."""


def clock_state(now: float, expires: float) -> str:
    """How a clock stands to metadata that was signed for TIMESTAMP_LIFETIME_SECONDS, until ``expires``: ``right``,
    ``behind`` its signature, or ``late``, which is after its end. Both are in seconds since 1970."""
    if now < expires - TIMESTAMP_LIFETIME_SECONDS - _CLOCK_SECONDS:
        return "behind"
    return "late" if now >= expires else "right"


def is_followed(timestamp: str, state: PullState) -> bool:
    """Whether what a source with this ``timestamp.json`` has was followed already, to its end."""
    return not state.pending and timestamp == state.timestamp and clock_state(time.time(), state.expires) == state.clock


def timestamp_text(content: bytes) -> str:
    """A ``timestamp.json`` as it is remembered."""
    return content.decode("utf-8", "replace")


def read_timestamp(location: str, config: PullConfig) -> bytes:
    """The newest ``timestamp.json`` of a source: an address of the web, or a directory. Raises LinkError."""
    if location.startswith(("https://", "http://")):
        if config.fetch.get("proxy") or config.fetch.get("token_file"):
            return _by_client(location, config)
        return _from_web(f"{location.rstrip('/')}/{TIMESTAMP}", config)
    path = os.path.join(location, TIMESTAMP)
    try:
        with open(path, "rb") as file:
            return file.read(TIMESTAMP_BYTES_MAX + 1)
    except OSError as error:
        raise LinkError(f"{path}: {error.strerror}") from error


def _by_client(location: str, config: PullConfig) -> bytes:
    """By the client that files are fetched with, which knows proxies and tokens."""
    from .._fetch.failures import SourceError
    from .._fetch.pace import CHUNK_BYTES, Pace, Patience
    from .._fetch.web import WebServer
    from .config import fetch_options

    server = WebServer(location, fetch_options(config), Pace(), Patience(connect=SILENCE_SECONDS))
    try:
        stream = server.open_document(TIMESTAMP, TIMESTAMP_BYTES_MAX)
        return b"".join(iter(lambda: stream.read(CHUNK_BYTES), b""))
    except SourceError as error:
        raise LinkError(str(error)) from error
    finally:
        server.close()


def _from_web(url: str, config: PullConfig) -> bytes:
    """The body of a plain reply; nothing for any other one, which a client of HTTP has to make sense of.

    By the socket itself: the import of ``http.client`` would double what a poll costs that finds nothing.
    """
    import socket

    scheme, host, port, path = address(url)
    request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: edgeml\r\nConnection: close\r\n\r\n"
    received = b""
    deadline = time.monotonic() + SILENCE_SECONDS
    try:
        with socket.create_connection((host, port), timeout=SILENCE_SECONDS) as plain:
            connection: Any = plain
            if scheme == "https":
                fetch = config.fetch
                ca_file = fetch.get("ca_file") or config.ca_file
                context = tls_context(url, fetch.get("certificate_file"), fetch.get("key_file"), ca_file)
                connection = context.wrap_socket(plain, server_hostname=host)
            connection.sendall(request.encode("ascii"))
            while len(received) <= 2 * TIMESTAMP_BYTES_MAX and time.monotonic() < deadline:
                chunk = connection.recv(65_536)
                if not chunk:
                    break
                received += chunk
    except (OSError, ValueError) as error:
        raise LinkError(f"{url}: {error or type(error).__name__}") from error
    return plain_body(received, url)


def plain_body(reply: bytes, url: str) -> bytes:
    """The body of a whole reply with the status 200 and a length; nothing for another one. Raises LinkError for one of
    a server that cannot answer, or that broke off."""
    head, _end, body = reply.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    words = first.split(b" ")
    if len(words) < 2 or not words[1].isdigit() or int(words[1]) >= 400:
        raise LinkError(f"{url}: expected a reply of a web server; found {first[:80].decode('ascii', 'replace')!r}")
    headers = {name.strip().lower(): value.strip() for name, _colon, value in (line.partition(b":") for line in lines)}
    length = headers.get(b"content-length", b"")
    if int(words[1]) != 200 or not length.isdigit() or b"transfer-encoding" in headers:
        return b""
    if len(body) < int(length):
        raise LinkError(f"{url}: the connection ended {int(length) - len(body)} bytes too early")
    return body[: int(length)]


def address(url: str) -> tuple[str, str, int, str]:
    """Scheme, host, port and path of an address of the web. Raises LinkError."""
    scheme, _mark, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    host, colon, port = authority.rpartition("@")[2].rpartition(":")
    if not colon or port.endswith("]"):
        host, port = authority.rpartition("@")[2], "443" if scheme == "https" else "80"
    if not port.isdigit():
        raise LinkError(f"{url}: expected a number as the port; found {port!r}")
    return scheme, host.strip("[]"), int(port), slash + path


def tls_context(url: str, certificate: str | None, key: str | None, ca_file: str | None) -> Any:
    """What a connection by TLS is made with. Raises LinkError where a file of it is not right."""
    from .._common.tls import client_context

    try:
        return client_context(ca_file, certificate, key)
    except (OSError, ValueError) as error:
        raise LinkError(f"{url}: {certificate or ''} {ca_file or ''}: cannot be used for TLS: {error}") from error
