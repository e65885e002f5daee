# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a client may ask of the server: sizes, numbers and times, with both HTTP parsers."""

from __future__ import annotations

import contextlib
import http.client
import json
import resource
import socket
import time
from collections.abc import Iterator

import numpy as np
import onnx_models
import pytest
from server_process import GUARD_SECONDS, Device, Reply, parse_replies, plus_input, read_reply, repeat_request

FOREVER = 2**62
LIVE = b"GET /v2/health/live HTTP/1.1\r\nHost: device\r\n"
INFER = b"POST /v2/models/plus/infer HTTP/1.1\r\nHost: device\r\n"
PLUS = json.dumps({"inputs": [plus_input([1, 2])]}).encode("ascii")


@pytest.fixture(scope="module", params=["httptools", "h11"])
def strict(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    """A device that serves ``plus`` with each HTTP parser, and that drops clients after a second of waiting."""
    device = Device(tmp_path_factory.mktemp("device"))
    try:
        device.publish("plus", "1.0.0", onnx_models.plus(1))
        hidden_by = device.hide("httptools") if request.param == "h11" else None
        device.spawn(hidden_by=hidden_by, client_seconds=1)
        device.wait_ready()
        yield device
    finally:
        device.stop()


def connect(device: Device) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", device.port))
    client.settimeout(GUARD_SECONDS)
    return client


def reply_on(client: socket.socket) -> Reply:
    response = http.client.HTTPResponse(client)
    response.begin()
    return Reply(response.status, {key.lower(): value for key, value in response.getheaders()}, response.read())


def exchange(device: Device, *pieces: bytes, half_close: bool = True) -> list[Reply]:
    """Send the pieces, say that nothing more comes (``half_close``) and return the replies until the server closes."""
    with connect(device) as client:
        # The server may answer and close while it is still being sent to.
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                client.sendall(piece)
            if half_close:
                client.shutdown(socket.SHUT_WR)
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := client.recv(1 << 16):
                received += piece
    return parse_replies(received)


def only_status(device: Device, *pieces: bytes) -> int:
    (reply,) = exchange(device, *pieces)
    assert list(reply.json()) == ["error"], reply
    return reply.status


def assert_serves(device: Device) -> None:
    assert device.infer("plus", [1, 2]).json()["outputs"][0]["data"] == [2.0, 3.0]


def chunked(*chunks: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)


# ---- sizes ----


def test_too_many_header_fields_are_431(strict: Device) -> None:
    fields = b"".join(b"X-%d: 1\r\n" % number for number in range(100))
    assert only_status(strict, LIVE + fields + b"\r\n") == 431


def test_too_long_a_header_is_431(strict: Device) -> None:
    assert only_status(strict, LIVE + b"X: " + b"x" * 33_000 + b"\r\n\r\n") == 431


@pytest.mark.parametrize("start", [LIVE + b"X: ", LIVE + b"X", b"GET /v2/", b"G"])
def test_a_header_without_end_is_refused_while_it_comes(strict: Device, start: bytes) -> None:
    with connect(strict) as client:
        client.sendall(start)
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 1 << 28:
                sent += client.send(b"x" * 65_536)
    assert sent < 1 << 28
    assert_serves(strict)


@pytest.mark.parametrize("trailer", [b"X: ", b"X: 1\r\n"])
def test_a_trailer_without_end_is_refused_while_it_comes(strict: Device, trailer: bytes) -> None:
    with connect(strict) as client:
        client.sendall(INFER + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(PLUS) + b"0\r\n")
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 1 << 28:
                sent += client.send((trailer * 65_536)[:65_536])
    assert sent < 1 << 28
    assert_serves(strict)


# ---- lengths ----


def test_a_chunked_body_is_read(strict: Device) -> None:
    pieces = chunked(*(bytes([byte]) for byte in PLUS))
    (reply,) = exchange(
        strict, INFER + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + pieces + b"0\r\n\r\n"
    )
    assert reply.json()["outputs"][0]["data"] == [2.0, 3.0]


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: -1\r\n\r\n",
        b"Content-Length: 1x\r\n\r\n",
        b"Content-Length: 0x10\r\n\r\n",
        b"Content-Length: " + b"9" * 40 + b"\r\n\r\n",
        b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nnot a size\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n-1\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
        b"Transfer-Encoding: chunked, gzip\r\n\r\n",
        b"Content-Length\r\n\r\n",
        b"Content-Length: 1\r\n X: folded\r\n\r\n1",
    ],
)
def test_wrong_framing_is_refused(strict: Device, framing: bytes) -> None:
    # h11 believes in any size of a chunk, and waits for it.
    assert {reply.status for reply in exchange(strict, INFER + framing)} <= {400, 413}
    assert_serves(strict)


def test_two_framings_at_once_are_refused(strict: Device) -> None:
    head = INFER + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
    replies = exchange(strict, head + b"0\r\n\r\n" + LIVE + b"\r\n", half_close=False)
    assert [reply.status for reply in replies] == [400]


def test_a_body_longer_than_it_says_ends_with_what_it_says(strict: Device) -> None:
    length = b"Content-Length: %d\r\n\r\n" % len(PLUS)
    replies = exchange(strict, INFER + length + PLUS + b"\x00 and more\r\n\r\n")
    assert replies[0].status == 200
    assert [reply.status for reply in replies[1:]] in ([], [400])


def test_a_body_shorter_than_it_says_is_no_request(strict: Device) -> None:
    assert exchange(strict, INFER + b"Content-Length: 1000\r\n\r\n" + PLUS) == []
    assert_serves(strict)


def test_pipelined_requests_are_answered_in_order(strict: Device) -> None:
    infer = INFER + b"Content-Length: %d\r\n\r\n" % len(PLUS) + PLUS
    last = LIVE + b"Connection: close\r\n\r\n"
    replies = exchange(strict, infer * 20 + last, half_close=False)
    assert [("outputs" in reply.json()) for reply in replies] == [True] * 20 + [False]


def test_a_client_that_only_listens_on_gets_its_reply(strict: Device) -> None:
    (reply,) = exchange(strict, INFER + b"Content-Length: %d\r\n\r\n" % len(PLUS) + PLUS)
    assert reply.status == 200


# ---- times ----


UNFINISHED = [
    b"",
    b"POST /v2",
    LIVE,
    INFER + b"Content-Length: 10\r\n\r\n",
    INFER + b"Content-Length: 10\r\n\r\n{",
    INFER + b"Transfer-Encoding: chunked\r\n\r\n",
    INFER + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
    INFER + b"Content-Length: 10\r\nExpect: 100-continue\r\n\r\n",
]


def test_a_request_that_does_not_come_to_an_end_is_408(strict: Device) -> None:
    with contextlib.ExitStack() as open_clients:
        clients = [open_clients.enter_context(connect(strict)) for _ in UNFINISHED]
        for client, start in zip(clients, UNFINISHED, strict=True):
            client.sendall(start)
        assert clients[-1].recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        for client in clients:
            reply = reply_on(client)
            assert (reply.status, reply.headers["connection"]) == (408, "close")
            assert "within 1 s" in reply.json()["error"]
            assert client.recv(1) == b""


@pytest.mark.parametrize("start", [LIVE + b"X: ", INFER + b"Content-Length: 1000000\r\n\r\n"])
def test_a_drop_at_a_time_does_not_help(strict: Device, start: bytes) -> None:
    with connect(strict) as client:
        client.sendall(start)
        client.settimeout(0.1)
        received = b""
        while not received:
            client.sendall(b"x")
            with contextlib.suppress(TimeoutError):
                received = client.recv(12)
    assert received == b"HTTP/1.1 408"


def test_the_second_request_of_a_connection_has_a_limit_too(strict: Device) -> None:
    with connect(strict) as client:
        client.sendall(LIVE + b"\r\n")
        assert reply_on(client).status == 200
        client.sendall(b"GET")
        assert reply_on(client).status == 408


def test_an_idle_connection_is_kept(strict: Device) -> None:
    with connect(strict) as idle, connect(strict) as slow:
        idle.sendall(LIVE + b"\r\n")
        assert reply_on(idle).status == 200
        slow.sendall(b"GET")
        assert reply_on(slow).status == 408
        idle.sendall(LIVE + b"\r\n")
        assert reply_on(idle).status == 200


def test_who_does_not_read_a_large_reply_is_dropped(strict: Device) -> None:
    rows = 1_000_000
    item = {"name": "x", "datatype": "FP32", "shape": [rows, 2], "parameters": {"binary_data_size": rows * 8}}
    document = json.dumps({"inputs": [item], "parameters": {"binary_data_output": True}}).encode("ascii")
    head = INFER + b"Inference-Header-Content-Length: %d\r\nContent-Length: %d\r\n\r\n"
    dropped = strict.metric("edgeml_http_connections_dropped_total", reason="slow") or 0
    with connect(strict) as client:
        client.sendall(head % (len(document), len(document) + rows * 8) + document + bytes(rows * 8))
        while (strict.metric("edgeml_http_connections_dropped_total", reason="slow") or 0) == dropped:
            assert_serves(strict)
        received = 0
        with contextlib.suppress(ConnectionResetError):
            while piece := client.recv(1 << 20):
                received += len(piece)
    assert received < 2 * rows * 8


def test_a_large_reply_is_read_whole(strict: Device) -> None:
    rows = np.arange(2_000_000, dtype=np.float32)
    item = {
        "name": "x",
        "datatype": "FP32",
        "shape": [len(rows) // 2, 2],
        "parameters": {"binary_data_size": rows.nbytes},
    }
    document = json.dumps(
        {"inputs": [item], "outputs": [{"name": "twice", "parameters": {"binary_data": True}}]}
    ).encode()
    headers = {"Inference-Header-Content-Length": str(len(document))}
    reply = strict.request("POST", "/v2/models/plus/infer", document + rows.tobytes(), headers)
    start = int(reply.headers["inference-header-content-length"])
    assert np.array_equal(np.frombuffer(reply.body[start:], np.float32), rows * 2)


# ---- numbers ----


def test_a_good_client_beside_a_thousand_that_do_nothing(device: Device) -> None:
    device.publish("plus", "1.0.0", onnx_models.plus(1))
    device.start(max_connections=200)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 4096), hard), hard))
    good = device.connect()
    with contextlib.closing(good), contextlib.ExitStack() as open_clients:
        for number in range(1000):
            client = open_clients.enter_context(connect(device))
            with contextlib.suppress(ConnectionError):
                client.sendall([b"", b"GET /v2", INFER + b"Content-Length: 10\r\n\r\n{"][number % 3])
            if number % 100 == 0:
                assert_serves(device)
                good.request("POST", "/v2/models/plus/infer", PLUS)
                assert read_reply(good).status == 200
                assert device.get("/v2/health/live", local=True).status == 200
        # The last of them may still wait to be accepted.
        while (device.metric("edgeml_http_connections_dropped_total", reason="crowded") or 0) < 800:
            assert_serves(device)
        assert (device.metric("edgeml_http_connections") or 0) <= 202
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_when_all_connections_work_the_next_is_503(device: Device) -> None:
    device.publish("repeat", "1.0.0", onnx_models.repeat())
    device.start(max_connections=2)
    working = [device.connect() for _ in range(2)]
    for connection in working:
        connection.request("POST", "/v2/models/repeat/infer", json.dumps(repeat_request(FOREVER)))
    while b"in_flight_requests 2.0" not in device.get("/metrics", local=True).body:
        pass
    reply = device.get("/v2/health/live")
    assert (reply.status, reply.headers["retry-after"], reply.headers["connection"]) == (503, "1", "close")
    assert reply.json() == {"error": "busy: 2 connections are at work; try again"}
    assert device.get("/v2/health/live", local=True).status == 200
    for connection in working:
        connection.close()


# ---- deadlines ----


def infer_repeat(device: Device, count: int, milliseconds: object = None, **parameters: object) -> Reply:
    headers = {} if milliseconds is None else {"Inference-Timeout-Ms": str(milliseconds)}
    body = json.dumps({**repeat_request(count), "parameters": parameters})
    return device.request("POST", "/v2/models/repeat/infer", body.encode("ascii"), headers)


@pytest.fixture
def one_worker(device: Device) -> Device:
    device.publish("repeat", "1.0.0", onnx_models.repeat())
    device.start(workers=1, max_pending=3)
    return device


def test_the_deadline_of_a_request_that_runs_or_waits_is_504(one_worker: Device) -> None:
    # A busy machine may take longer than 100 ms until it runs.
    reply = infer_repeat(one_worker, FOREVER, 2000)
    assert (reply.status, reply.json()) == (504, {"error": "the deadline came while the request ran"})
    for _ in range(2):
        reply = infer_repeat(one_worker, 1, 100)
        assert (reply.status, reply.json()) == (504, {"error": "the deadline came while the request waited"})
    # What waited keeps its place: behind an inference that hangs, nothing piles up.
    assert infer_repeat(one_worker, 1, 100).status == 503
    counted = one_worker.series("edgeml_inference_requests_total")
    assert counted == {("504", "repeat", "1.0.0"): 3, ("503", "repeat", "1.0.0"): 1}


def test_a_request_that_is_answered_in_time(one_worker: Device) -> None:
    assert infer_repeat(one_worker, 1, 60_000).json()["outputs"][0]["data"] == [1.0]
    assert infer_repeat(one_worker, 1, 60_000, timeout=60_000_000).status == 200
    assert infer_repeat(one_worker, 1, timeout=0).status == 200


def test_the_servers_own_deadline(device: Device) -> None:
    device.publish("repeat", "1.0.0", onnx_models.repeat())
    device.start(workers=4, deadline_ms=100)
    assert infer_repeat(device, FOREVER).status == 504
    assert infer_repeat(device, FOREVER, 86_400_000).status == 504
    # What the first ones keep busy may have the next one late, too.
    give_up = time.monotonic() + GUARD_SECONDS
    while (status := infer_repeat(device, 1).status) == 504 and time.monotonic() < give_up:
        pass
    assert status == 200


def test_a_request_that_waited_longer_than_its_parameter_timeout_is_504(one_worker: Device) -> None:
    early = one_worker.connect()
    early.request("POST", "/v2/models/repeat/infer", json.dumps(repeat_request(3_000_000)))
    one_worker.wait_in_flight(1)
    reply = infer_repeat(one_worker, 1, timeout=1)
    assert (reply.status, "waited for more than 1 microseconds" in reply.json()["error"]) == (504, True)
    assert read_reply(early).status == 200
    early.close()


@pytest.mark.parametrize("milliseconds", ["", "0", "-1", "1.5", "soon", 86_400_001, "9" * 30])
def test_a_wrong_deadline_is_400(shared_device: Device, milliseconds: object) -> None:
    reply = infer_repeat(shared_device, 1, milliseconds)
    assert (reply.status, "Inference-Timeout-Ms: expected" in reply.json()["error"]) == (400, True)


@pytest.mark.parametrize("timeout", [-1, 1.5, "1", True])
def test_a_wrong_timeout_is_400(shared_device: Device, timeout: object) -> None:
    reply = infer_repeat(shared_device, 1, timeout=timeout)
    assert (reply.status, "timeout: expected" in reply.json()["error"]) == (400, True)
