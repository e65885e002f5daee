# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Both HTTP parsers answer the same bytes alike, and agree where a request ends, however the bytes are cut."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import onnx_models
import pytest
from raw_requests import BODY, CHUNKED, JAVA, LAST, VALID, chunked, cuts, get, message, post, replies
from server_process import GUARD_SECONDS, Device

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


@pytest.mark.parametrize("name", VALID)
def test_valid_requests_are_answered_alike(devices: tuple[Device, Device], name: str) -> None:
    data, statuses = VALID[name]
    for segments in cuts(data, name):
        with_httptools, with_h11 = (replies(device.socket_path, *segments) for device in devices)
        assert [status for status, _body in with_httptools] == statuses, segments
        assert with_httptools == with_h11, segments


@pytest.mark.parametrize("name", REJECTED)
def test_what_could_be_read_in_two_ways_is_rejected_alike(devices: tuple[Device, Device], name: str) -> None:
    for device in devices:
        ((status, body),) = replies(device.socket_path, REJECTED[name] + LAST)
        assert (status, list(json.loads(body))) == (400, ["error"])


@pytest.mark.parametrize("name", LENIENT)
def test_the_stricter_parser_closes_the_connection(devices: tuple[Device, Device], name: str) -> None:
    data = LENIENT[name] + get() + LAST
    strict, lenient = sorted((replies(device.socket_path, data) for device in devices), key=len)
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
