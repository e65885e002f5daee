# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The probe and the client that it uses, against a real HTTP server on a Unix socket that can also answer nonsense."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ServerError, StoreError
from ansible_collections.edgeml.fleet.plugins.module_utils._device.client import Server
from ansible_collections.edgeml.fleet.plugins.module_utils._device.probe_set import (
    BATCH_ROWS,
    counted_since,
    measure,
    parse_metrics,
    probe_accuracy,
    request_counts,
)


class Handler(BaseHTTPRequestHandler):
    """Answers with what the server was told to, or echoes inputs as outputs."""

    server: FakeServer

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_message: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def _answer(self, body: bytes) -> None:
        self.server.requests.append((self.command, self.path, body))
        status, reply = self.server.reply or (200, json.dumps(echo(json.loads(body))).encode())
        if status == 0:
            return
        self.send_response(status)
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)


class FakeServer(ThreadingUnixStreamServer):
    """A server on a Unix socket; ``reply`` (status, body) is its answer to everything; a status of 0 hangs up."""

    daemon_threads = True

    def __init__(self, path: str) -> None:
        super().__init__(path, Handler)
        self.path = path
        self.reply: tuple[int, bytes] | None = None
        self.requests: list[tuple[str, str, bytes]] = []


def echo(request: Any) -> Any:
    (tensor,) = request["inputs"]
    return {"model_version": "1.0.0", "outputs": [{**tensor, "name": "scores"}]}


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeServer]:
    with FakeServer(str(tmp_path / "s")) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def server(fake: FakeServer) -> Server:
    return Server(fake.path, look_seconds=10, work_seconds=10)


def write_probe(path: Path, rows: list[list[float]], labels: list[int], **changes: Any) -> str:
    data = [value for row in rows for value in row]
    tensor = {"name": "x", "datatype": "FP32", "shape": [len(rows), len(rows[0])], "data": data}
    path.write_text(json.dumps({"inputs": [tensor], "output": "scores", "labels": labels, **changes}))
    return str(path)


# ---- accuracy ----


@pytest.mark.parametrize("count", [1, 2, BATCH_ROWS - 1, BATCH_ROWS, BATCH_ROWS + 1, 3 * BATCH_ROWS + 5])
def test_accuracy_is_the_share_of_rows_that_are_right(
    tmp_path: Path, fake: FakeServer, server: Server, count: int
) -> None:
    rows = [[0.0, 1.0, 0.5] if number % 2 else [2.0, 1.0, -1.0] for number in range(count)]
    labels = [number % 2 for number in range(count)]
    labels[0] = 2
    measured = probe_accuracy(server, "digits", write_probe(tmp_path / "probe.json", rows, labels))
    assert measured["version"] == "1.0.0"
    assert (measured["samples"], measured["correct"]) == (count, count - 1)
    assert measured["accuracy"] == pytest.approx((count - 1) / count, abs=1e-6)
    assert measured["latency_seconds"] > 0
    bodies = [json.loads(body) for _method, path, body in fake.requests if path == "/v2/models/digits/infer"]
    assert [body["inputs"][0]["shape"] for body in bodies[:-1]] == [[BATCH_ROWS, 3]] * (len(bodies) - 1)
    assert sum(body["inputs"][0]["shape"][0] for body in bodies) == count
    assert all(body["outputs"] == [{"name": "scores"}] for body in bodies)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        "3",
        "{}",
        "[" * 100_000,
        '{"inputs": [], "output": "scores", "labels": [1]}',
        '{"inputs": [{"shape": [1, 1], "data": [1.0]}], "output": "scores", "labels": []}',
        '{"inputs": [{"shape": [2, 1], "data": [1.0, 2.0]}], "output": "scores", "labels": [1]}',
        '{"inputs": [{"shape": [2, 1], "data": [1.0, 2.0, 3.0]}], "output": "scores", "labels": [1, 0]}',
        '{"inputs": [{"shape": [], "data": [1.0]}], "output": "scores", "labels": [1]}',
        '{"inputs": [{"shape": 1, "data": [1.0]}], "output": "scores", "labels": [1]}',
        '{"inputs": [{"shape": [1], "data": {"0": 1.0}}], "output": "scores", "labels": [1]}',
        '{"inputs": [{"shape": [1, 1], "data": []}], "output": "scores", "labels": [1]}',
        '{"inputs": {"0": {}}, "output": "scores", "labels": [1]}',
        '{"inputs": [{"shape": [1], "data": [1.0]}], "labels": [1]}',
        '{"inputs": [{"shape": [1], "data": [1.0]}], "output": "scores", "labels": {"0": 1}}',
        '{"inputs": [{"shape": [1], "data": [1.0]}], "output": "scores", "labels": 1}',
    ],
    ids=lambda text: text[:60],
)
def test_a_damaged_probe_set_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "probe.json"
    path.write_text(text)
    with pytest.raises(StoreError, match=f"^{path}: damaged probe set: "):
        probe_accuracy(Server("/nowhere"), "digits", str(path))


def test_a_missing_probe_set_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"probe.json: damaged probe set: FileNotFoundError"):
        probe_accuracy(Server("/nowhere"), "digits", str(tmp_path / "probe.json"))


@pytest.mark.parametrize(
    "reply",
    [
        {},
        {"outputs": []},
        {"outputs": [{}]},
        {"outputs": [{"data": []}]},
        {"outputs": [{"data": [0.5]}]},
        {"outputs": [{"data": [None, None, None, None]}]},
        {"outputs": [{"data": ["a", 1, 2.0, None]}]},
        {"outputs": {"data": [1, 2]}},
        {"outputs": [{"data": 3}]},
        {"outputs": [{"data": [0.1, 0.2, 0.3]}]},
    ],
    ids=json.dumps,
)
def test_an_answer_that_does_not_fit_the_probe_set_is_the_servers_error(
    tmp_path: Path, fake: FakeServer, server: Server, reply: Any
) -> None:
    fake.reply = (200, json.dumps(reply).encode())
    probe = write_probe(tmp_path / "probe.json", [[0.0, 1.0], [1.0, 0.0]], [0, 1])
    with pytest.raises(ServerError, match="digits: expected scores for 2 rows"):
        probe_accuracy(server, "digits", probe)


def test_a_refused_probe_is_the_servers_error(tmp_path: Path, fake: FakeServer, server: Server) -> None:
    fake.reply = (400, b'{"error": "no such output"}')
    with pytest.raises(ServerError, match="expected status 200; found 400: no such output"):
        probe_accuracy(server, "digits", write_probe(tmp_path / "probe.json", [[0.0, 1.0]], [0]))


# ---- the client ----


def test_calls_of_the_client(fake: FakeServer, server: Server) -> None:
    fake.reply = (200, b'{"versions": ["1.0.0", "1.1.0"]}')
    assert server.is_live()
    assert server.serving_version("digits") == "1.1.0"
    assert server.is_ready("digits", "1.1.0")
    server.load("digits")
    server.unload("digits")
    assert server.metrics() == '{"versions": ["1.0.0", "1.1.0"]}'
    assert [(method, path) for method, path, _body in fake.requests] == [
        ("GET", "/v2/health/live"),
        ("GET", "/v2/models/digits"),
        ("GET", "/v2/models/digits/versions/1.1.0/ready"),
        ("POST", "/v2/repository/models/digits/load"),
        ("POST", "/v2/repository/models/digits/unload"),
        ("GET", "/metrics"),
    ]


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
    with pytest.raises(ServerError, match="no answer from the server: RemoteDisconnected"):
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
        pytest.raises(ServerError, match=r"no answer from the server: IncompleteRead\(3 bytes read, 7 more expected\)"),
    ):
        server.metrics()


# ---- metrics ----

NOTHING = {"requests": 0, "errors": 0, "timed": 0, "latency_seconds_sum": 0.0, "latency_buckets": []}
PAGE = """\
# HELP edgeml_inference_requests_total Inference requests answered.
# TYPE edgeml_inference_requests_total counter
edgeml_inference_requests_total{code="200",model="digits",version="1.1.0"} 812.0
edgeml_inference_requests_total{code="400",model="digits",version="1.1.0"} 3.0
edgeml_inference_requests_total{code="500",model="digits",version="1.1.0"} 2.0
edgeml_inference_requests_total{code="503",model="digits",version="1.1.0"} 1.0
edgeml_inference_requests_total{code="500",model="digits",version="1.0.0"} 99.0
edgeml_inference_requests_total{code="500",model="faces",version="1.1.0"} 99.0
edgeml_inference_duration_seconds_count{model="digits",version="1.1.0"} 812.0
edgeml_inference_duration_seconds_sum{model="digits",version="1.1.0"} 1.9
edgeml_inference_duration_seconds_bucket{le="0.005",model="digits",version="1.1.0"} 810.0
edgeml_inference_duration_seconds_bucket{le="0.0025",model="digits",version="1.1.0"} 511.0
edgeml_inference_duration_seconds_bucket{le="+Inf",model="digits",version="1.1.0"} 812.0
edgeml_inference_duration_seconds_bucket{le="0.005",model="digits",version="1.0.0"} NaN
edgeml_feedback_labels_total{model="digits",outcome="right",version="1.1.0"} 90.0
edgeml_feedback_labels_total{model="digits",outcome="wrong",version="1.1.0"} 7.0
edgeml_drift_psi{model="digits",series="mean",version="1.1.0"} 0.31
edgeml_drift_alarm{model="digits",series="mean",version="1.1.0"} 1.0
edgeml_drift_windows_total{model="digits",series="mean",version="1.1.0"} 4.0
edgeml_drift_psi{model="digits",series="argmax",version="1.1.0"} 0.01
edgeml_shadow_requests_total{model="digits",outcome="agreed",version="1.1.0"} 40.0
edgeml_shadow_requests_total{model="digits",outcome="failed",version="1.1.0"} 2.0
process_resident_memory_bytes 1.2e+08
process_start_time_seconds 1.7e+09
weird{a="with \\"quotes\\", a } and = signs",b=""} NaN
edgeml_up +Inf
"""


def test_counts_are_of_one_version_of_one_model() -> None:
    assert request_counts(PAGE, "digits", "1.1.0") == {
        **NOTHING,
        "requests": 815,
        "errors": 3,
        "timed": 812,
        "latency_seconds_sum": 1.9,
        "latency_buckets": [[0.0025, 511], [0.005, 810]],
    }
    assert request_counts(PAGE, "digits", "1.0.0") == {**NOTHING, "requests": 99, "errors": 99}
    assert request_counts(PAGE, "none", "1.0.0") == NOTHING
    assert request_counts("", "digits", "1.0.0")["requests"] == 0


def test_all_that_is_told_of_a_version() -> None:
    told = measure(PAGE, "digits", "1.1.0")
    assert told == {
        "requests": request_counts(PAGE, "digits", "1.1.0"),
        "labels": {"right": 90, "wrong": 7},
        "drift": [
            {"series": "argmax", "psi": 0.01, "alarm": False, "windows": 0},
            {"series": "mean", "psi": 0.31, "alarm": True, "windows": 4},
        ],
        "shadow": {"agreed": 40, "disagreed": 0, "failed": 2, "dropped": 0},
        "resident_bytes": 120_000_000,
        "started": 1.7e9,
    }
    nothing = measure("", "digits", "1.1.0")
    assert nothing["requests"] == NOTHING
    assert (nothing["drift"], nothing["resident_bytes"], nothing["started"]) == ([], None, None)


def test_what_was_counted_since() -> None:
    begun, now = request_counts(PAGE, "digits", "1.0.0"), request_counts(PAGE, "digits", "1.1.0")
    first = {**now, "requests": 15, "errors": 1, "timed": 12, "latency_buckets": [[0.0025, 11], [0.005, 12]]}
    assert counted_since(first, now) == {
        "requests": 800,
        "errors": 2,
        "timed": 800,
        "latency_seconds_sum": 0.0,
        "latency_buckets": [[0.0025, 500], [0.005, 798]],
    }
    assert counted_since({}, now) == now
    assert counted_since(begun, now) == now, "99 errors before and 3 now: the server counts anew"
    assert counted_since({"right": 3, "wrong": 1}, {"right": 4, "wrong": 1}) == {"right": 1, "wrong": 0}


def test_what_is_no_finite_number_is_not_counted() -> None:
    counted = 'edgeml_inference_requests_total{code="500",model="digits",version="1.0.0"}'
    summed = 'edgeml_inference_duration_seconds_sum{model="digits",version="1.0.0"}'
    for value in ("NaN", "+Inf", "-Inf"):
        page = f"{counted} 2\n{counted} {value}\n{summed} {value}\n"
        assert request_counts(page, "digits", "1.0.0") == {**NOTHING, "requests": 2, "errors": 2}


def test_samples_have_names_labels_and_values() -> None:
    samples = {(name, *sorted(labels.items())): value for name, labels, value in parse_metrics(PAGE)}
    assert len(samples) == 24
    assert samples[("process_start_time_seconds",)] == 1.7e9
    assert samples[("edgeml_up",)] == float("inf")
    assert ("weird", ("a", 'with \\"quotes\\", a } and = signs'), ("b", "")) in samples


@given(st.text())
def test_any_page_is_parsed(page: str) -> None:
    parse_metrics(page)


@pytest.mark.parametrize("value", ["x", "1,0", "NaN5", ""])
def test_a_sample_without_a_number_is_passed_over(value: str) -> None:
    assert parse_metrics(f"a 1\nb {value}\nc 2\n") == [("a", {}, 1.0), ("c", {}, 2.0)]
