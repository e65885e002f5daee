# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The load generator of the digits example, against real HTTP servers, the well-behaved one with the real models."""

from __future__ import annotations

import http.client
import importlib.util
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits"
REPOSITORY = DIGITS / "repository"
PATH = "/v2/models/digits/infer"


def load_traffic() -> Any:
    spec = importlib.util.spec_from_file_location("digits_traffic", DIGITS / "traffic.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


traffic = load_traffic()


class Server(ThreadingHTTPServer):
    """An HTTP/1.1 server that runs a committed release, until `misbehave` takes a request over."""

    daemon_threads = True

    def __init__(self, version: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.load(version)
        self.misbehave: Callable[[Handler], bool] = lambda handler: False
        self.connections = 0
        self.requests = 0
        self.closed = threading.Semaphore(0)

    def load(self, version: str) -> None:
        manifest = json.loads((REPOSITORY / "digits" / version / "manifest.json").read_text(encoding="utf-8"))
        (model,) = manifest["variants"][0]["files"]
        session = onnxruntime.InferenceSession(REPOSITORY / "blobs" / "sha256" / model["sha256"])
        self.serving = (version, session)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        self.connections += 1
        super().process_request_thread(request, client_address)
        self.closed.release()

    @property
    def target(self) -> Any:
        return traffic.Target("device", "127.0.0.1", self.server_port)

    def connect(self) -> Any:
        return traffic.Connection("127.0.0.1", self.server_port, timeout=5)


class Handler(BaseHTTPRequestHandler):
    """Answers infer requests of the digits model."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def do_POST(self) -> None:
        self.server.requests += 1
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.server.misbehave(self):
            return
        assert self.path == PATH
        (image,) = request["inputs"]
        version, session = self.server.serving
        pixels = np.array(image["data"], dtype=np.float32).reshape(image["shape"])
        (outputs,) = session.run(["probabilities"], {image["name"]: pixels})
        data = outputs.flatten().tolist()
        output = {"name": "probabilities", "datatype": "FP32", "shape": list(outputs.shape), "data": data}
        self.reply(200, {"model_name": "digits", "model_version": version, "id": request["id"], "outputs": [output]})

    def reply(self, status: int, document: Any) -> None:
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_arguments: object) -> None:
        """Keep the tests' output quiet."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server("1.1.0") as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def images() -> Any:
    return traffic.load_images(traffic.default_probe())


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def hang_up(handler: Handler) -> bool:
    """Close the connection without any reply."""
    handler.close_connection = True
    return True


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def test_counts_every_reply_over_one_connection(server: Server, images: Any) -> None:
    running = traffic.Traffic([server.target], images, rate=1000).start()
    wait_until(lambda: running.report()["device"].ok >= len(images))
    report = running.stop()["device"]
    assert (report.sent, report.failed, report.first_errors) == (report.ok, 0, [])
    assert report.versions == {"1.1.0": report.ok}
    assert report.correct == report.correct_by_version["1.1.0"]
    assert 0.97 < report.correct / report.ok < 1
    assert 0 < report.latency_p50_ms <= report.latency_p95_ms
    assert (server.connections, report.reconnects, report.resent) == (1, 0, 0)
    assert server.requests == report.sent


def test_sees_the_version_change(server: Server, images: Any) -> None:
    with traffic.Traffic([server.target], images, rate=200) as running:
        wait_until(lambda: running.report()["device"].ok >= 20)
        server.load("1.2.0")
        wait_until(lambda: running.report()["device"].versions.get("1.2.0", 0) >= 100)
        report = running.stop()["device"]
    assert sum(report.versions.values()) == report.ok == report.sent
    assert report.correct_by_version["1.1.0"] > 0.8 * report.versions["1.1.0"]
    assert report.correct_by_version["1.2.0"] < 0.7 * report.versions["1.2.0"]


def test_a_refused_connection_fails_and_hinders_no_other_target(server: Server, images: Any) -> None:
    down = traffic.Target("down", "127.0.0.1", unused_port())
    running = traffic.Traffic([down, server.target], images, rate=100).start()
    wait_until(lambda: all(report.sent >= 10 for report in running.report().values()))
    reports = running.stop()
    assert reports["down"].failed == reports["down"].sent
    assert (reports["down"].ok, reports["down"].latency_p50_ms) == (0, None)
    assert len(reports["down"].first_errors) == 5
    assert "ConnectionRefusedError" in reports["down"].first_errors[0]
    assert reports["device"].failed == 0


def test_an_error_reply_fails_and_the_next_request_counts_again(server: Server, images: Any) -> None:
    def refuse_third(handler: Handler) -> bool:
        if server.requests != 3:
            return False
        handler.reply(503, {"error": "too busy"})
        return True

    server.misbehave = refuse_third
    running = traffic.Traffic([server.target], images, rate=200).start()
    wait_until(lambda: running.report()["device"].ok >= 10)
    report = running.stop()["device"]
    assert (report.failed, report.reconnects) == (1, 0)
    assert report.first_errors[0].endswith('s: HTTP 503: {"error": "too busy"}')


def test_a_slow_server_gets_fewer_requests_and_no_burst_afterwards(server: Server, images: Any) -> None:
    def delay_first(_handler: Handler) -> bool:
        if server.requests == 1:
            time.sleep(1)
        return False

    server.misbehave = delay_first
    began = time.monotonic()
    with traffic.Traffic([server.target], images, rate=10) as running:
        time.sleep(1.5)
        wait_until(lambda: running.report()["device"].ok >= 2)
        report = running.stop()["device"]
    assert (report.sent, report.failed) == (report.ok, 0)
    # After the second of the first one ten in each, and not also those of that second.
    assert report.sent <= 10 * (time.monotonic() - began - 1) + 3


def test_a_timeout_fails(server: Server, images: Any) -> None:
    def answer_never(handler: Handler) -> bool:
        time.sleep(0.5)
        return hang_up(handler)

    server.misbehave = answer_never
    with traffic.Traffic([server.target], images, rate=100, timeout=0.1) as running:
        wait_until(lambda: running.report()["device"].failed >= 1)
        report = running.stop()["device"]
    assert "TimeoutError" in report.first_errors[0]
    assert report.resent == 0


def test_opens_an_idle_connection_again_that_the_server_closed(server: Server, images: Any) -> None:
    def close_after_reply(handler: Handler) -> bool:
        handler.close_connection = True
        return False

    server.misbehave = close_after_reply
    connection = server.connect()
    for _ in range(3):
        assert connection.post(PATH, images[0].body)[0] == 200
        assert server.closed.acquire(timeout=5)
    assert (connection.reconnects, connection.resent) == (2, 0)
    assert (server.connections, server.requests) == (3, 3)


def test_sends_again_when_a_reused_connection_closes_without_any_reply(server: Server, images: Any) -> None:
    connection = server.connect()
    assert connection.post(PATH, images[0].body)[0] == 200
    server.misbehave = lambda handler: server.requests == 2 and hang_up(handler)
    assert connection.post(PATH, images[0].body)[0] == 200
    assert (connection.reconnects, connection.resent) == (1, 1)
    assert server.requests == 3


def test_sends_again_only_once(server: Server, images: Any) -> None:
    connection = server.connect()
    assert connection.post(PATH, images[0].body)[0] == 200
    server.misbehave = hang_up
    with pytest.raises(http.client.RemoteDisconnected):
        connection.post(PATH, images[0].body)
    assert server.requests == 3


def test_does_not_send_again_on_a_new_connection(server: Server, images: Any) -> None:
    server.misbehave = hang_up
    connection = server.connect()
    for requests in (1, 2):
        with pytest.raises(http.client.RemoteDisconnected):
            connection.post(PATH, images[0].body)
        assert server.requests == requests
    assert (connection.reconnects, connection.resent) == (0, 0)


@pytest.mark.parametrize("beginning", [b"HTTP/1.1 ", b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"])
def test_does_not_send_again_after_the_reply_began(server: Server, images: Any, beginning: bytes) -> None:
    connection = server.connect()
    assert connection.post(PATH, images[0].body)[0] == 200

    def break_off(handler: Handler) -> bool:
        handler.wfile.write(beginning)
        return hang_up(handler)

    server.misbehave = break_off
    with pytest.raises(http.client.HTTPException):
        connection.post(PATH, images[0].body)
    assert (server.requests, connection.reconnects, connection.resent) == (2, 0, 0)


def good_reply(**changes: Any) -> dict[str, Any]:
    output = {"name": "probabilities", "datatype": "FP32", "shape": [1, 10], "data": [0.0] * 9 + [1.0]}
    return {"model_name": "digits", "model_version": "1.1.0", "id": "0", "outputs": [output]} | changes


def test_reads_a_prediction(images: Any) -> None:
    assert traffic.read_prediction(200, json.dumps(good_reply()).encode(), "digits", images[0]) == ("1.1.0", 9)


@pytest.mark.parametrize(
    "reply",
    [
        [],
        {},
        good_reply(model_name="other"),
        good_reply(model_version=None),
        good_reply(id="1"),
        good_reply(outputs=[]),
        good_reply(outputs=[{"name": "probabilities", "data": [1.0] * 9}]),
        good_reply(outputs=[{"name": "probabilities", "data": [float("nan")] * 10}]),
        good_reply(outputs=[{"name": "probabilities", "data": ["1"] * 10}]),
        good_reply(outputs=[{"name": "probabilities", "data": [10**400] * 10}]),
    ],
)
def test_refuses_a_malformed_reply(reply: Any, images: Any) -> None:
    with pytest.raises(traffic.ReplyError):
        traffic.read_prediction(200, json.dumps(reply).encode(), "digits", images[0])


def test_refuses_a_reply_that_is_not_json(images: Any) -> None:
    with pytest.raises(traffic.ReplyError, match="<html>"):
        traffic.read_prediction(200, b"<html>\xff", "digits", images[0])


def test_percentile_is_the_nearest_rank() -> None:
    values = [float(value) for value in range(1, 101)]
    assert (traffic.percentile(values, 50), traffic.percentile(values, 95)) == (50, 95)
    assert (traffic.percentile([7.0], 95), traffic.percentile([], 50)) == (7, None)


def test_parses_targets() -> None:
    assert traffic.Target.parse("a=edge-1:8080") == traffic.Target("a", "edge-1", 8080)
    assert traffic.Target.parse("a=[::1]:8080") == traffic.Target("a", "::1", 8080)
    for text in ("edge-1:8080", "a=8080", "a=edge-1", "=edge-1:8080", "a=edge-1:http"):
        with pytest.raises(ValueError, match="name=host:port"):
            traffic.Target.parse(text)


def run_command(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(DIGITS / "traffic.py"), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_command_reports_json_when_it_is_told_to_stop(server: Server) -> None:
    process = run_command("--json", "--rate", "50", f"one=127.0.0.1:{server.server_port}")
    wait_until(lambda: server.requests >= 10)
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, "")
    report = json.loads(output)["one"]
    assert report["ok"] == report["sent"] == server.requests
    assert report["versions"] == {"1.1.0": report["ok"]}


def test_command_shows_a_table_and_fails_when_a_request_failed(server: Server) -> None:
    up, down = f"up=127.0.0.1:{server.server_port}", f"down=127.0.0.1:{unused_port()}"
    process = run_command("--seconds", "0.5", up, down)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "versions (correct/replies)" in output
    assert "ConnectionRefusedError" in output


def test_command_refuses_wrong_arguments() -> None:
    process = run_command("nonsense")
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 2
    assert "expected name=host:port, found 'nonsense'" in errors
