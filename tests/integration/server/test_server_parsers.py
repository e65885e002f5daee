# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Both HTTP parsers answer the same bytes alike, and agree where a request ends, however the bytes are cut."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import random
import socket
import struct
from collections.abc import Iterator

import onnx_models
import pytest
from server_process import GUARD_SECONDS, Device, parse_replies, plus_input

BODY = json.dumps({"inputs": [plus_input([1, 2])]}).encode("ascii")
JAVA = (
    b"Connection: Upgrade, HTTP2-Settings",
    b"Upgrade: h2c",
    b"HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
)
"""What Java's HttpClient sends by default with its first request."""
WEBSOCKET = (b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: YWJj")
CHUNKED = (b"Transfer-Encoding: chunked",)

Replies = list[tuple[int, bytes]]


def message(line: bytes, *fields: bytes, body: bytes = b"", host: bool = True) -> bytes:
    return b"\r\n".join([line, *([b"Host: device"] if host else []), *fields, b"", body])


def get(*fields: bytes, target: bytes = b"/v2/health/live", version: bytes = b"1.1", host: bool = True) -> bytes:
    return message(b"GET %b HTTP/%b" % (target, version), *fields, host=host)


def post(*fields: bytes, body: bytes = BODY, version: bytes = b"1.1", length: bytes | None = None) -> bytes:
    length = b"%d" % len(body) if length is None else length
    lengths = () if CHUNKED[0] in fields else (b"Content-Length: " + length,)
    return message(b"POST /v2/models/plus/infer HTTP/%b" % version, *fields, *lengths, body=body)


def chunked(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


LAST = get(b"Connection: close")

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
    "trailer": (post(*CHUNKED, body=chunked(BODY)[:-2] + b"X: y\r\n\r\n") + LAST, [200, 200]),
}
"""Requests, and the statuses of their replies."""

REJECTED = {
    "both-lengths": post(b"Transfer-Encoding: chunked ", body=b"0\r\n\r\n"),
    "other-encoding": message(b"POST /v2 HTTP/1.1", b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"),
    "chunked-1.0": post(*CHUNKED, body=chunked(BODY), version=b"1.0"),
    "connect": message(b"CONNECT /v2 HTTP/1.1"),
    "connect-authority": message(b"CONNECT device:80 HTTP/1.1"),
    "http-2.0": get(version=b"2.0"),
    "http-2-preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "http-1.2": get(version=b"1.2"),
    "no-version": b"GET /v2\r\n\r\n",
    "no-host": get(host=False),
    "two-hosts": get(b"Host: other"),
    "no-slash": get(target=b"v2"),
    "asterisk": message(b"OPTIONS * HTTP/1.1"),
    "two-lengths": post(b"Content-Length: 3"),
    "negative-length": post(length=b"-1"),
    "length-with-sign": post(length=b"+%d" % len(BODY)),
    "bad-chunk": post(*CHUNKED, body=b"zz\r\n"),
    "space-before-colon": get(b"X : y"),
    "zero-in-value": get(b"X: a\x00b"),
    "return-in-value": get(b"X: a\rb"),
}
"""Requests that both parsers answer with one 400, closing the connection: what follows is not read."""

LENIENT = {
    "bare-line-feeds": get().replace(b"\r\n", b"\n"),
    "folded-value": get(b"X: a\r\n b"),
    "empty-line-before": b"\r\n" + get(),
    "one-length-twice": post(b"Content-Length: %d" % len(BODY)),
    "length-as-list": post(length=b"%d, %d" % (len(BODY), len(BODY))),
    "space-behind-chunk-size": post(*CHUNKED, body=chunked(BODY).replace(b"\r\n", b" \r\n", 1)),
    "control-character": get(b"X: a\x01b"),
    "two-spaces": get().replace(b"GET ", b"GET  "),
    "unknown-method": get().replace(b"GET ", b"FOO "),
}
"""Requests that only one of the parsers takes; the other closes the connection, so that both never read two things."""


@pytest.fixture(scope="module")
def devices(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Device, Device]]:
    """Two devices that serve ``plus``, with httptools and with h11."""
    made = [Device(tmp_path_factory.mktemp(name)) for name in ("httptools", "h11")]
    try:
        for device in made:
            device.publish("plus", "1.0.0", onnx_models.plus(1))
        made[0].spawn()
        made[1].spawn(hidden_by=made[1].hide("httptools"))
        for device in made:
            device.wait_ready()
        yield made[0], made[1]
    finally:
        for device in made:
            device.stop()


def replies(device: Device, *segments: bytes) -> Replies:
    """Send each of the segments once the server has read the one before, and return the replies until it closes."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(GUARD_SECONDS)
        client.connect(device.socket_path)
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


@pytest.mark.parametrize("name", VALID)
def test_valid_requests_are_answered_alike(devices: tuple[Device, Device], name: str) -> None:
    data, statuses = VALID[name]
    for segments in cuts(data, name):
        with_httptools, with_h11 = (replies(device, *segments) for device in devices)
        assert [status for status, _body in with_httptools] == statuses, segments
        assert with_httptools == with_h11, segments


@pytest.mark.parametrize("name", REJECTED)
def test_what_could_be_read_in_two_ways_is_rejected_alike(devices: tuple[Device, Device], name: str) -> None:
    for device in devices:
        ((status, body),) = replies(device, REJECTED[name] + LAST)
        assert (status, list(json.loads(body))) == (400, ["error"])


@pytest.mark.parametrize("name", LENIENT)
def test_the_stricter_parser_closes_the_connection(devices: tuple[Device, Device], name: str) -> None:
    data = LENIENT[name] + get() + LAST
    strict, lenient = sorted((replies(device, data) for device in devices), key=len)
    assert [status for status, _body in strict] == [400]
    assert [status for status, _body in lenient[1:]] == [200, 200]


def test_an_upgrade_with_an_expectation_is_answered(devices: tuple[Device, Device]) -> None:
    request = post(*JAVA, b"Expect: 100-continue")
    for device in devices:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(GUARD_SECONDS)
            client.connect(device.socket_path)
            client.sendall(request[: -len(BODY)])
            assert client.recv(1 << 16) == b"HTTP/1.1 100 Continue\r\n\r\n"
            client.sendall(BODY)
            assert client.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
