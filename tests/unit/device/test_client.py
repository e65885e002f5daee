# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The client of the Open Inference Protocol, against an HTTP server on a Unix socket that can also answer nonsense."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from fake_server import FakeServer

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ServerError
from ansible_collections.edgeml.fleet.plugins.module_utils._device.client import Server


def test_calls_of_the_client(fake: FakeServer, server: Server) -> None:
    fake.reply = (200, b'{"versions": ["1.0.0", "1.1.0"]}')
    assert server.is_live()
    assert server.serving_version("digits") == "1.1.0"
    assert server.is_ready("digits", "1.1.0")
    server.load("digits")
    server.unload("digits")
    assert server.metrics() == '{"versions": ["1.0.0", "1.1.0"]}'
    assert (server.extensions(), server.inputs("digits")) == ([], {})
    assert [(method, path) for method, path, _body in fake.requests] == [
        ("GET", "/v2/health/live"),
        ("GET", "/v2/models/digits"),
        ("GET", "/v2/models/digits/versions/1.1.0/ready"),
        ("POST", "/v2/repository/models/digits/load"),
        ("POST", "/v2/repository/models/digits/unload"),
        ("GET", "/metrics"),
        ("GET", "/v2"),
        ("GET", "/v2/models/digits"),
    ]


@pytest.mark.parametrize(
    "inputs", ['[{"name": "x"}]', '[{"shape": [1]}]', "[3]", "3", '[{"name": "x", "shape": ["a"]}]']
)
def test_inputs_that_are_none_are_the_servers_error(fake: FakeServer, server: Server, inputs: str) -> None:
    fake.reply = (200, f'{{"inputs": {inputs}}}'.encode())
    with pytest.raises(ServerError, match="metadata: expected inputs with names and shapes"):
        server.inputs("digits")


@pytest.mark.parametrize("body", [b"{}", b'{"versions": []}', b'{"versions": null}'])
def test_a_model_without_versions_is_not_served(fake: FakeServer, server: Server, body: bytes) -> None:
    fake.reply = (200, body)
    assert server.serving_version("digits") is None


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"<html>", b"\xff", b'{"versions": {"a": 1}}', b"[" * 100_000])
def test_metadata_that_is_none_is_the_servers_error(fake: FakeServer, server: Server, body: bytes) -> None:
    fake.reply = (200, body)
    with pytest.raises(ServerError, match="metadata: expected "):
        server.serving_version("digits")


@pytest.mark.parametrize("status", [400, 404, 500, 503])
def test_refusals(fake: FakeServer, server: Server, status: int) -> None:
    fake.reply = (status, b'{"error": "no such model"}')
    assert not server.is_live()
    assert server.serving_version("digits") is None
    assert not server.is_ready("digits", "1.0.0")
    with pytest.raises(ServerError, match=f"load: expected status 200; found {status}: no such model$"):
        server.load("digits")


@pytest.mark.parametrize("body", [b"<html>oops</html>", b"", b"[]", b'{"error": {}}', b"\xff\xff", b"x" * 100_000])
def test_a_refusal_without_the_protocols_error_is_shown_as_it_is(fake: FakeServer, server: Server, body: bytes) -> None:
    fake.reply = (500, body)
    with pytest.raises(ServerError, match="found 500") as caught:
        server.load("digits")
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("call", ["load", "metrics", "is_ready", "infer"])
def test_a_server_that_is_not_there(tmp_path: Path, call: str) -> None:
    server = Server(str(tmp_path / "nowhere"))
    assert not server.is_live()
    assert server.serving_version("digits") is None
    arguments: dict[str, list[Any]] = {
        "load": ["digits"],
        "metrics": [],
        "is_ready": ["digits", "1"],
        "infer": ["digits", {}],
    }
    with pytest.raises(ServerError, match=r"nowhere: \w+ .*: no answer from the server: FileNotFoundError"):
        getattr(server, call)(*arguments[call])


def test_a_server_that_hangs_up(fake: FakeServer, server: Server) -> None:
    fake.reply = (0, b"")
    assert not server.is_live()
    with pytest.raises(ServerError, match="no answer from the server: the server hung up without an answer"):
        server.load("digits")


def test_a_server_that_never_answers(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(tmp_path / "s"))
        deaf.listen()
        with pytest.raises(ServerError, match="no answer from the server: TimeoutError"):
            Server(str(tmp_path / "s"), look_seconds=0.2, work_seconds=0.2).load("digits")


def test_a_path_that_is_too_long_for_a_socket(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match="path too long"):
        Server(str(tmp_path / ("x" * 200))).load("digits")


@pytest.mark.parametrize("address", ["http://a..b:80", "http://" + "x" * 70 + ":80", "/a\0b"])
def test_an_address_that_cannot_be_one(address: str) -> None:
    with pytest.raises(ServerError, match="no answer from the server: "):
        Server(address).load("digits")
    assert not Server(address).is_live()


@contextmanager
def raw(path: Path, begin: bytes, then: bytes = b"") -> Iterator[Server]:
    """A server that answers one request with bytes: some at once, then the others again and again, while it can."""

    def answer(listener: socket.socket) -> None:
        connection, _address = listener.accept()
        with connection, suppress(OSError):
            connection.recv(4096)
            connection.sendall(begin)
            while then:
                connection.sendall(then)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path / "raw"))
        listener.listen()
        thread = threading.Thread(target=answer, args=(listener,))
        thread.start()
        yield Server(str(path / "raw"), look_seconds=10, work_seconds=10)
        thread.join()


def test_a_reply_that_does_not_end_is_cut_off(tmp_path: Path) -> None:
    endless = b"HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775807\r\n\r\n"
    with (
        raw(tmp_path, endless, b"x" * (1 << 20)) as server,
        pytest.raises(ServerError, match=r"GET /metrics: expected at most \d+ bytes; found more"),
    ):
        server.metrics()


def test_a_reply_that_trickles_is_not_waited_for(tmp_path: Path) -> None:
    with raw(tmp_path, b"HTTP/1.1 200 OK\r\n\r\n", b"x") as server:
        server.look_seconds = 0.2
        with pytest.raises(ServerError, match=r"GET /metrics: no answer .*the reply has no end after 0\.2 s"):
            server.metrics()


def test_a_reply_that_breaks_off_is_none(tmp_path: Path) -> None:
    with (
        raw(tmp_path, b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc") as server,
        pytest.raises(ServerError, match="no answer from the server: the reply ends after 3 of 10 bytes"),
    ):
        server.metrics()
