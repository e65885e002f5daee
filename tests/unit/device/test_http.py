# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The device's own HTTP: what is sent, each way in which a reply ends, and replies that are none."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.edgeml.fleet.plugins.module_utils._device.http import HttpError, TooLargeError, exchange

LIMITS = (1 << 16, 10.0)


@contextmanager
def server(pieces: list[bytes], asked: list[bytes]) -> Iterator[socket.socket]:
    """A connection whose other end reads a request to its last byte, sends the pieces one by one, and hangs up."""
    here, there = socket.socketpair()

    def answer() -> None:
        with there:
            request = b""
            while b"\r\n\r\n" not in request or not request.endswith((b"\r\n\r\n", b"end")):
                request += there.recv(4096)
            asked.append(request)
            # A client that has its whole reply hangs up, and does not wait for what follows.
            with suppress(BrokenPipeError):
                for piece in pieces:
                    there.sendall(piece)

    thread = threading.Thread(target=answer)
    thread.start()
    with here:
        yield here
    thread.join()


def get(*pieces: bytes, bytes_max: int = LIMITS[0]) -> tuple[int, bytes, dict[str, str]]:
    with server(list(pieces), []) as connection:
        return exchange(connection, "GET", "/v2", {"Host": "here"}, b"", (bytes_max, LIMITS[1]))


def test_what_is_sent() -> None:
    asked: list[bytes] = []
    with server([b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"], asked) as connection:
        exchange(connection, "POST", "/v2/load", {"Host": "here", "Edgeml-Probe": "1"}, b"the end", LIMITS)
    head, _blank, body = asked[0].partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"POST /v2/load HTTP/1.1",
        b"Connection: close",
        b"Host: here",
        b"Edgeml-Probe: 1",
        b"Content-Length: 7",
    ]
    assert body == b"the end"


@pytest.mark.parametrize(
    "rest",
    [
        b"Content-Length: 5\r\n\r\nhello",
        b"content-length:5 \r\n\r\nhello and more that is not waited for",
        b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nTrailer: 1\r\n\r\n",
        b"\r\nhello",
    ],
    ids=["length", "length and more", "chunks", "end of the connection"],
)
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_reply_ends_as_it_says_however_it_is_cut(rest: bytes, size: int) -> None:
    reply = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nX-Name: A b\r\n" + rest
    status, body, headers = get(*(reply[start : start + size] for start in range(0, len(reply), size)))
    assert (status, body, headers["x-name"]) == (200, b"hello", "A b")


def test_a_status_without_a_body_has_none() -> None:
    assert get(b"HTTP/1.1 204 No Content\r\n\r\n")[:2] == (204, b"")


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (b"", "the server hung up without an answer"),
        (b"HTTP/1.1 200 OK\r\n", "the server hung up in its answer"),
        (b"SSH-2.0-x\r\n\r\n", "expected an HTTP reply; found b'SSH-2.0-x'"),
        (b"HTTP/1.1 2000 OK\r\n\r\n", "expected an HTTP reply"),
        (b"HTTP/1.1\r\n\r\n", "expected an HTTP reply"),
        (b"x" * 70_000, "expected lines of at most 65536 bytes"),
        (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 101 + b"\r\n", "expected at most 100 headers; found more"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "expected a length; found '-1'"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1_0\r\n\r\n", "expected a length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", "the reply ends after 3 of 10 bytes"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "expected a length; found 'zz'"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n", "expected the end of a chunk"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", "the server hung up in its answer"),
    ],
)
def test_what_is_no_reply_is_told(reply: bytes, message: str) -> None:
    with pytest.raises(HttpError) as caught:
        get(reply)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    "rest",
    [
        b"Content-Length: 99999999999\r\n\r\n",
        b"\r\n" + b"x" * 200,
        b"Transfer-Encoding: chunked\r\n\r\n" + b"60\r\n" + b"x" * 96 + b"\r\n5\r\n12345\r\n",
    ],
)
def test_a_reply_that_is_too_long_is_not_read(rest: bytes) -> None:
    with pytest.raises(TooLargeError, match="expected at most 100 bytes; found more"):
        get(b"HTTP/1.1 200 OK\r\n" + rest, bytes_max=100)


def test_a_header_that_trickles_is_not_waited_for() -> None:
    """The time is that of the whole reply, not of its next byte."""
    here, there = socket.socketpair()
    ended = threading.Event()

    def trickle() -> None:
        while not ended.wait(0.02):
            there.send(b"x")

    thread = threading.Thread(target=trickle)
    thread.start()
    with here, there:
        with pytest.raises(TimeoutError, match=r"the reply has no end after 0\.2 s"):
            exchange(here, "GET", "/v2", {}, b"", (100, 0.2))
        ended.set()
        thread.join()


@pytest.mark.parametrize("url", ["/a b", "/a\r\nX: y", "/ä", "/\0"])
def test_a_url_cannot_bring_headers(url: str) -> None:
    here, there = socket.socketpair()
    with here, there, pytest.raises(HttpError, match="expected a URL without spaces and control characters"):
        exchange(here, "GET", url, {}, b"", LIMITS)


@given(st.binary(max_size=200))
def test_bytes_of_any_kind_end_in_a_reply_or_an_error(reply: bytes) -> None:
    try:
        status, _body, _headers = get(b"HTTP/1.1 200 OK\r\n" + reply)
    except HttpError:
        return
    assert status == 200
