# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The process: start, limits, metrics, what systemd is told, and the end."""

from __future__ import annotations

import http.client
import json
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx_models
import pytest
from server_process import Device, NotifySocket, plus_input, read_reply, repeat_request

FOREVER = 2**62


def send_endless_request(device: Device) -> Any:
    connection = device.connect()
    connection.request("POST", "/v2/models/repeat/infer", json.dumps(repeat_request(FOREVER)))
    return connection


def assert_refuses_what_is_not_http(device: Device) -> None:
    with socket.create_connection(("127.0.0.1", device.port)) as client:
        client.sendall(b"not http\r\n\r\n")
        response = http.client.HTTPResponse(client)
        response.begin()
        assert response.status == 400
        assert list(json.loads(response.read())) == ["error"]


# ---- start ----


@pytest.mark.parametrize("local", [True, False])
def test_it_answers_on_both_sockets(shared_device: Device, local: bool) -> None:
    assert shared_device.get("/v2/health/ready", local).status == 200


def test_what_is_not_http_is_400(shared_device: Device) -> None:
    assert_refuses_what_is_not_http(shared_device)


def test_the_socket_is_for_the_service_and_its_group(shared_device: Device) -> None:
    assert stat.S_IMODE(Path(shared_device.socket_path).stat().st_mode) == 0o660


def test_a_dead_servers_socket_file_is_replaced(device: Device) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(device.socket_path)
    device.start()
    assert device.get("/v2/health/live", local=True).status == 200


def test_a_living_servers_socket_is_left_alone(shared_device: Device, device: Device) -> None:
    device.spawn(socket=shared_device.socket_path)
    assert device.wait() == 2
    assert "another server answers there" in device.log.all()[-1]
    assert shared_device.get("/v2/health/live", local=True).status == 200


def test_a_file_in_the_sockets_place_is_left_alone(device: Device) -> None:
    Path(device.socket_path).write_text("precious")
    device.spawn()
    assert device.wait() == 2
    assert Path(device.socket_path).read_text() == "precious"


def test_a_taken_port_is_named(shared_device: Device, device: Device) -> None:
    device.spawn(listen_port=shared_device.port)
    assert device.wait() == 2
    assert f"127.0.0.1 port {shared_device.port}: Address already in use" in device.log.all()[-1]
    assert not Path(device.socket_path).exists()


def test_a_wrong_configuration_is_named(device: Device) -> None:
    device.spawn(thread=1)
    assert device.wait() == 2
    assert "server.json: unknown key thread" in device.log.all()[-1]


def test_a_server_without_its_c_extensions_serves_all_the_same(device: Device) -> None:
    device.publish("plus", "1.0.0", onnx_models.plus(1))
    device.publish("identities", "1.0.0", onnx_models.identities())
    device.spawn(hidden_by=device.hide("httptools", "uvloop", "orjson"), max_request_bytes=1000)
    device.wait_ready()
    listening = device.log.wait_for_text("info listening")
    assert "loop=asyncio.unix_events http=H11Protocol" in listening
    assert device.infer("plus", [1, 2]).json()["outputs"][0]["data"] == [2.0, 3.0]
    assert device.infer("plus", [3e38, 1]).json()["outputs"][1]["data"] == [None, 2.0]
    assert device.post("/v2/repository/index", local=True).status == 200
    assert device.post("/v2/repository/index").status == 403
    for body in (b"{", b'{"inputs": [NaN]}', b"[" * 900):
        assert device.post("/v2/models/plus/infer", body).status == 400
    assert_refuses_what_is_not_http(device)
    connection = device.connect()
    connection.request("POST", "/v2/models/plus/infer", b" " * 1001)
    assert read_reply(connection).status == 413
    connection.request("POST", "/v2/models/plus/infer", json.dumps({"inputs": [plus_input([1, 2])]}))
    assert read_reply(connection).status == 200
    connection.close()


def test_while_models_load_it_answers_and_is_not_ready(device: Device) -> None:
    endless = repeat_request(FOREVER)
    outputs = [{"name": "y", "datatype": "FP32", "shape": [1], "data": [0]}]
    golden = {**endless, "outputs": outputs, "tolerance": {"absolute": 0, "relative": 0}}
    device.publish("repeat", "1.0.0", onnx_models.repeat(), golden)
    device.spawn()
    device.wait_listening()
    assert device.get("/v2/health/live").status == 200
    ready = device.get("/v2/health/ready")
    assert (ready.status, ready.json()) == (503, {"live": True, "ready": False, "error": "the server is starting"})
    assert device.get("/v2/models/repeat/ready").status == 503
    assert device.infer("repeat", [1, 2]).status == 503
    device.terminate()
    assert device.wait() == 0


# ---- limits ----


def test_a_full_queue_is_503_and_says_when_to_try_again(device: Device) -> None:
    device.publish("repeat", "1.0.0", onnx_models.repeat())
    device.start(max_pending=2, workers=1)
    hanging = [send_endless_request(device) for _ in range(2)]
    device.wait_in_flight(2)
    reply = device.post("/v2/models/repeat/infer", repeat_request(1))
    assert reply.status == 503
    assert reply.headers["retry-after"] == "1"
    assert reply.json() == {"error": "busy: 2 inferences are pending; try again"}
    assert device.get("/v2/health/ready").status == 200
    assert device.metric("edgeml_inference_requests_total", model="repeat", version="1.0.0", code="503") == 1
    for connection in hanging:
        connection.close()


def test_bodies_in_memory_are_bounded(device: Device) -> None:
    device.publish("plus", "1.0.0", onnx_models.plus(1))
    limit = 100_000
    device.start(max_request_bytes=limit)
    slow = []
    for _ in range(4):
        connection = device.connect()
        connection.putrequest("POST", "/v2/models/plus/infer")
        connection.putheader("Content-Length", str(limit))
        connection.putheader("Expect", "100-continue")
        connection.endheaders()
        assert connection.sock.recv(4096).startswith(b"HTTP/1.1 100")
        connection.send(b" " * (limit - 1))
        slow.append(connection)
    statuses = set()
    while 503 not in statuses:
        statuses.add(device.request("POST", "/v2/models/plus/infer", b" " * (limit // 2)).status)
    assert statuses <= {400, 503}
    for connection in slow:
        connection.close()
    while device.infer("plus", [1, 2]).status != 200:
        pass


# ---- metrics ----


def test_metrics_count_what_was_sent(device: Device) -> None:
    device.publish("plus", "1.0.0", onnx_models.plus(1))
    device.start(max_request_bytes=1000)
    for _ in range(3):
        assert device.infer("plus", [1, 2]).status == 200
    assert device.infer("plus", [1, 2], outputs=7).status == 400
    assert device.infer("absent", [1, 2]).status == 404
    assert device.post("/v2/models/plus/infer", b" " * 1001).status == 413
    assert device.series("edgeml_inference_requests_total") == {
        ("200", "plus", "1.0.0"): 3,
        ("400", "plus", "1.0.0"): 1,
        ("404", "", ""): 1,
        ("413", "", ""): 1,
    }
    assert device.series("edgeml_inference_duration_seconds_count") == {("plus", "1.0.0"): 3}
    assert device.metric("edgeml_inference_in_flight_requests") == 0
    version = device.store.version("plus", "1.0.0")
    assert device.series("edgeml_model_info") == {(version.digest, "plus", "onnx-fp32", "1.0.0"): 1}
    assert device.series("edgeml_model_load_duration_seconds")[("plus", "1.0.0")] > 0
    assert (device.metric("process_resident_memory_bytes") or 0) > 0
    reply = device.get("/metrics")
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")


def test_metrics_name_the_version_that_serves(device: Device) -> None:
    device.publish("plus", "1.0.0", onnx_models.plus(1))
    device.start()
    device.publish("plus", "1.1.0", onnx_models.plus(2))
    assert device.load("plus").status == 200
    version = device.store.version("plus", "1.1.0")
    assert device.series("edgeml_model_info") == {(version.digest, "plus", "onnx-fp32", "1.1.0"): 1}
    assert list(device.series("edgeml_model_load_duration_seconds")) == [("plus", "1.1.0")]
    assert device.series("edgeml_model_swaps_total") == {("plus", "succeeded"): 2}


# ---- systemd ----


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NotifySocket]:
    address = str(tmp_path / "notify.sock")
    notify = NotifySocket(address if request.param == "path" else f"@{address}")
    yield notify
    notify.close()


def test_systemd_is_told_readiness_and_what_serves(device: Device, systemd: NotifySocket) -> None:
    device.publish("plus", "1.0.0", onnx_models.plus(1))
    device.spawn({"NOTIFY_SOCKET": systemd.address})
    assert systemd.messages.wait_for_text("READY=1") == "READY=1\nSTATUS=serving plus 1.0.0"
    device.wait_ready()
    assert device.infer("plus", [1, 2]).status == 200
    device.publish("plus", "1.1.0", onnx_models.plus(2))
    assert device.load("plus").status == 200
    systemd.messages.wait_for_text("STATUS=serving plus 1.1.0")
    device.terminate()
    systemd.messages.wait_for_text("STOPPING=1")
    assert device.wait() == 0
    assert not any("WATCHDOG" in message for message in systemd.messages.all())


def test_the_watchdog_is_fed_while_inferences_come_to_an_end(device: Device, systemd: NotifySocket) -> None:
    device.publish("repeat", "1.0.0", onnx_models.repeat())
    device.start({"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "200000"}, workers=1)
    systemd.messages.wait_for(lambda messages: messages.count("WATCHDOG=1") >= 3)
    connection = send_endless_request(device)
    systemd.messages.wait_for(lambda messages: sum("not feeding" in message for message in messages) >= 3)
    messages = systemd.messages.all()
    first = next(index for index, message in enumerate(messages) if "not feeding" in message)
    assert "WATCHDOG=1" not in messages[first:]
    assert device.get("/v2/health/live").status == 200
    connection.close()


def test_another_process_watchdog_is_not_ours(device: Device, systemd: NotifySocket) -> None:
    device.start({"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"})
    device.terminate()
    assert device.wait() == 0
    assert not any("WATCHDOG" in message for message in systemd.messages.all())


def test_journald_gets_levels(device: Device) -> None:
    device.publish("bad", "1.0.0", b"not\na model")
    device.spawn({"JOURNAL_STREAM": "8:1"})
    lines = device.log.wait_for(lambda lines: any("ready" in line for line in lines))
    loaded = next(line for line in lines if "model not loaded" in line)
    assert loaded.startswith("<3>model not loaded model=bad error=")


# ---- the end ----


def test_sigterm_lets_a_request_in_flight_finish(device: Device) -> None:
    device.publish("plus", "1.0.0", onnx_models.plus(1))
    device.start()
    idle = device.connect(local=True)
    body = json.dumps({"inputs": [plus_input([1, 2])]}).encode("utf-8")
    connection = device.connect()
    connection.putrequest("POST", "/v2/models/plus/infer")
    connection.putheader("Content-Length", str(len(body)))
    connection.putheader("Expect", "100-continue")
    connection.endheaders()
    assert connection.sock.recv(4096).startswith(b"HTTP/1.1 100")
    device.terminate()
    device.log.wait_for_text("info stopping")
    connection.send(body)
    reply = read_reply(connection)
    assert (reply.status, reply.headers["connection"]) == (200, "close")
    assert device.wait() == 0
    assert idle.sock.recv(1) == b""
    assert "abandoned_requests=0" in device.log.all()[-1]
    assert not Path(device.socket_path).exists()
    connection.close()
    idle.close()


def test_sigterm_gives_up_what_does_not_end(device: Device) -> None:
    device.publish("repeat", "1.0.0", onnx_models.repeat())
    device.start(drain_seconds=0)
    connection = send_endless_request(device)
    device.wait_in_flight(1)
    device.terminate()
    reply = read_reply(connection)
    assert reply.status == 503
    assert "stopped" in reply.json()["error"]
    assert device.wait() == 1
    assert "abandoned_requests=1" in device.log.all()[-1]
    connection.close()
