# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Requests as bytes, in one segment or cut into several, and the replies to them."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import random
import socket
import struct

from server_process import GUARD_SECONDS, parse_replies, plus_input

BODY = json.dumps({"inputs": [plus_input([1, 2])]}).encode("ascii")
JAVA = (
    b"Connection: Upgrade, HTTP2-Settings",
    b"Upgrade: h2c",
    b"HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
)
"""What Java's HttpClient sends by default with its first request."""
WEBSOCKET = (b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: YWJj")
CHUNKED = (b"Transfer-Encoding: chunked",)

LARGE = BODY + b" " * (200 << 10)
"""The same as ``BODY``, in more bytes than a server reads at once."""

Replies = list[tuple[int, bytes]]
"""The status and the body of each reply."""


def message(line: bytes, *fields: bytes, body: bytes = b"", host: bool = True) -> bytes:
    """A request with a line and fields of its header."""
    return b"\r\n".join([line, *([b"Host: device"] if host else []), *fields, b"", body])


def get(*fields: bytes, target: bytes = b"/v2/health/live", version: bytes = b"1.1", host: bool = True) -> bytes:
    """A GET of a target."""
    return message(b"GET %b HTTP/%b" % (target, version), *fields, host=host)


def post(*fields: bytes, body: bytes = BODY, version: bytes = b"1.1", length: bytes | None = None) -> bytes:
    """An inference, whose header says the length of its body, or that it comes in chunks."""
    length = b"%d" % len(body) if length is None else length
    lengths = () if CHUNKED[0] in fields else (b"Content-Length: " + length,)
    return message(b"POST /v2/models/plus/infer HTTP/%b" % version, *fields, *lengths, body=body)


def chunked(body: bytes) -> bytes:
    """A body as one chunk."""
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


LAST = get(b"Connection: close")
"""The server closes the connection behind its reply to this."""

VALID: dict[str, tuple[bytes, list[int]]] = {
    "plain": (post() + LAST, [200, 200]),
    "chunked": (post(*CHUNKED, body=chunked(BODY)) + LAST, [200, 200]),
    "java": (post(*JAVA) + LAST, [200, 200]),
    "java-chunked": (post(*JAVA, *CHUNKED, body=chunked(BODY)) + LAST, [200, 200]),
    "java-twice": (get() + post(*JAVA) + post(*JAVA) + LAST, [200, 200, 200, 200]),
    "java-1.0": (post(*JAVA, version=b"1.0"), [200]),
    # Read as a request of its own it would be answered with 200, as the model's input it is no JSON.
    "java-a-request-as-body": (post(*JAVA, body=get()) + LAST, [400, 200]),
    "upgrade-without-connection": (post(b"Upgrade: h2c") + LAST, [200, 200]),
    "connection-without-upgrade": (post(b"Connection: upgrade") + LAST, [200, 200]),
    "websocket": (get(*WEBSOCKET) + LAST, [200, 200]),
    "absolute-url": (get(target=b"http://device/v2/health/live") + LAST, [200, 200]),
    "query-and-fragment": (get(target=b"/v2/health/live?a=b#c") + LAST, [200, 200]),
    "http-1.0": (get(version=b"1.0", host=False), [200]),
    "body-of-a-get": (get(b"Content-Length: 3") + b"abc" + LAST, [200, 200]),
    "large": (post(body=LARGE) + LAST, [200, 200]),
    "large-twice": (post(body=LARGE) + post(body=LARGE) + LAST, [200, 200, 200]),
    "large-chunked": (post(*CHUNKED, body=chunked(LARGE)) + LAST, [200, 200]),
    # Answered before its body is there, which is read to its end and is no request.
    "large-to-nobody": (post(body=LARGE).replace(b"/plus/", b"/absent/") + LAST, [404, 200]),
    "trailer": (post(*CHUNKED, body=chunked(BODY)[:-2] + b"X: y\r\n\r\n") + LAST, [200, 200]),
}
"""Requests, and the statuses of their replies."""


def replies(socket_path: str, *segments: bytes) -> Replies:
    """Send each of the segments once the server has read the one before, and return the replies until it closes."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(GUARD_SECONDS)
        client.connect(socket_path)
        # The server may close before it has read everything.
        with contextlib.suppress(ConnectionError):
            for segment in segments:
                client.sendall(segment)
                while unread(client):
                    pass
        received = b""
        with contextlib.suppress(ConnectionError):
            while part := client.recv(1 << 16):
                received += part
    return [(reply.status, reply.body) for reply in parse_replies(received)]


def unread(client: socket.socket) -> int:
    """How many bytes the peer of a Unix socket has not read yet; 0 once it has closed."""
    (count,) = struct.unpack("i", fcntl.ioctl(client, SIOCOUTQ, bytes(4)))
    return int(count)


SIOCOUTQ = 0x5411


def cuts(data: bytes, name: str) -> list[list[bytes]]:
    """The data in one segment, in two at each end of a header, and in some random ones."""
    places = [[], *([place + 4] for place in range(len(data)) if data.startswith(b"\r\n\r\n", place))]
    generator = random.Random(name)
    places += [sorted(generator.sample(range(1, len(data)), 5)) for _ in range(3)]
    return [[data[start:end] for start, end in itertools.pairwise([0, *cut, len(data)])] for cut in places]
