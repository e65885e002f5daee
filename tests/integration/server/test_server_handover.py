# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A new server process takes over from the one that serves, and no request is lost."""

from __future__ import annotations

import json
import socket
import sqlite3
import ssl
from pathlib import Path
from typing import Any

import onnx_models
import pytest
from certificates import Authority
from edgeml_server.handover.channel import Channel, Description, describe, handover_path
from edgeml_server.tools.reload import RESTART_NEEDED, RestartNeededError, replace
from load import OK, Load
from server_process import Device, NotifySocket, plus_input, read_reply

REQUEST = {"inputs": [plus_input([1, 2])]}
GOLDEN = {
    **REQUEST,
    "outputs": [{"name": "sum", "datatype": "FP32", "shape": [1, 2], "data": [2, 3]}],
    "tolerance": {"absolute": 1e-4, "relative": 1e-3},
}
INFER = "/v2/models/plus/infer"


@pytest.fixture
def serving(device: Device) -> Device:
    """A device that serves ``plus`` and logs every request."""
    device.publish("plus", "1.0.0", onnx_models.plus(1), GOLDEN)
    device.start(**logged(device))
    return device


def logged(device: Device, **config: object) -> dict[str, Any]:
    path = str(device.directory / "predictions.db")
    return {"prediction_log": path, "prediction_log_sample_percent": 100, **config}


def rows(device: Device) -> list[str]:
    """The ids of the logged requests."""
    with sqlite3.connect(f"file:{device.directory}/predictions.db?mode=ro", uri=True) as log:
        return [found for (found,) in log.execute("SELECT request_id FROM predictions ORDER BY id")]


@pytest.mark.parametrize("hidden", [(), ("httptools", "uvloop")], ids=["uvloop and httptools", "asyncio and h11"])
def test_no_request_is_lost(device: Device, tmp_path: Path, hidden: tuple[str, ...]) -> None:
    device.publish("plus", "1.0.0", onnx_models.plus(1), GOLDEN)
    without = device.hide(*hidden)
    device.spawn(hidden_by=without)
    device.wait_ready()
    processes = [device.pid]
    with Load(tmp_path, device.port, INFER, REQUEST) as load:
        for number in range(1, 3):
            assert device.replace(without, max_pending=64 + number) == 0
            processes.append(device.pid)
    assert len(set(processes)) == 3
    assert {request.status for request in load.requests} == {OK}
    assert list(load.bodies) == [device.infer("plus", [1, 2]).body.decode()]
    assert device.get("/v2/health/ready", local=True).status == 200
    assert device.wait() == 0


def test_what_is_open_is_answered_and_one_process_after_the_other_writes_the_log(serving: Device) -> None:
    idle, local = serving.connect(), serving.connect(local=True)
    assert serving.infer("plus", [1, 2], id="before").status == 200
    assert serving.replace(**logged(serving, max_pending=65)) == 0
    for connection in (idle, local):
        connection.request("POST", INFER, json.dumps(REQUEST))
        reply = read_reply(connection)
        assert (reply.status, reply.headers["connection"]) == (200, "close")
    assert serving.wait() == 0
    assert serving.infer("plus", [1, 2], id="after").status == 200
    assert serving.post("/v2/models/plus/feedback", {"id": "before", "label": 3}).status == 200
    assert rows(serving) == ["before", "after"]


def test_what_only_the_new_process_knows_is_asked_there(serving: Device) -> None:
    connections = {name: serving.connect(local=True) for name in ("metrics", "load", "feedback", "index")}
    assert serving.replace(**logged(serving, max_pending=65)) == 0
    assert serving.infer("plus", [1, 2], id="after").status == 200
    serving.publish("plus", "1.1.0", onnx_models.plus(2))

    def ask(name: str, method: str, path: str, body: object = None) -> bytes:
        connections[name].request(method, path, None if body is None else json.dumps(body))
        reply = read_reply(connections[name])
        assert (reply.status, reply.headers["connection"]) == (200, "close"), reply.body
        return reply.body

    assert b'edgeml_inference_requests_total{code="200",model="plus",version="1.0.0"} 1.0' in ask(
        "metrics", "GET", "/metrics"
    )
    assert b'"label"' not in ask("feedback", "POST", "/v2/models/plus/feedback", {"id": "after", "label": 3})
    assert json.loads(ask("load", "POST", "/v2/repository/models/plus/load"))["version"] == "1.1.0"
    assert serving.infer("plus", [1, 2]).json()["outputs"][0]["data"] == [3.0, 4.0]
    assert json.loads(ask("index", "POST", "/v2/repository/index"))[0]["version"] == "1.1.0"


def test_a_process_that_is_not_ready_leaves_the_one_before(serving: Device) -> None:
    broken = serving.hide("onnxruntime")
    before = serving.pid
    assert serving.reload_as_unit() == "info reloaded", "nothing has changed: no new process is needed"
    code = serving.replace(broken, **logged(serving, max_pending=65))
    assert (code, serving.pid) == (1, before)
    serving.new_log.wait_for_text("a model that serves would not: plus: ")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert serving.replace(**logged(serving, listen_port=taken.getsockname()[1])) == 1
    serving.new_log.wait_for_text("Address already in use")
    assert serving.infer("plus", [1, 2], id="still").status == 200
    assert serving.replace(**logged(serving, max_pending=66)) == 0
    assert serving.pid != before
    assert rows(serving) == ["still"]
    Path(handover_path(serving.socket_path)).unlink()
    assert serving.replace(**logged(serving, max_pending=67)) == RESTART_NEEDED
    serving.new_log.wait_for_text("the server that runs cannot hand over")


def test_another_port_and_a_model_that_became_active(serving: Device) -> None:
    serving.publish("plus", "1.1.0", onnx_models.plus(2))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    before = serving.port
    assert serving.replace(**logged(serving, listen_port=port)) == 0
    serving.port = port
    assert serving.infer("plus", [1, 2]).json()["outputs"][0]["data"] == [3.0, 4.0]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", before))


def test_a_successor_that_ends_is_forgotten(serving: Device) -> None:
    for messages in ([], ["take_over"], ["take_over", "ready"], ["describe", "ready"], ["nonsense"]):
        channel = Channel.connect(handover_path(serving.socket_path))
        for message in messages:
            channel.send(message)
        if messages == ["take_over", "ready"]:
            channel.receive("description")
            channel.receive("go")
        channel.close()
        assert describe(serving.socket_path).models == ["plus"], "it listens for the next one"
        assert serving.infer("plus", [1, 2], id=f"after {messages}").status == 200
    assert serving.post("/v2/models/plus/feedback", {"id": "after []", "label": 3}).status == 200
    assert len(rows(serving)) == 5


def test_what_systemd_is_told(device: Device, tmp_path: Path) -> None:
    notified = NotifySocket(str(tmp_path / "notify"))
    try:
        device.publish("plus", "1.0.0", onnx_models.plus(1), GOLDEN)
        device.start({"NOTIFY_SOCKET": notified.address, "WATCHDOG_USEC": "60000000"})
        # Its log says it a moment earlier than it tells systemd.
        begun = len(notified.messages.wait_for(lambda lines: any("READY=1" in line for line in lines)))
        before = device.pid
        assert device.replace(max_pending=65) == 0
        assert device.pid != before
        lines = notified.messages.wait_for(lambda lines: any("READY=1" in line for line in lines[begun:]))[begun:]
        named = lines.index(f"MAINPID={device.pid}")
        assert any(line.startswith("EXTEND_TIMEOUT_USEC=") for line in lines[:named]), "the new process loads"
        ready = next(index for index, line in enumerate(lines) if "READY=1" in line)
        assert named < ready
        assert "WATCHDOG_USEC=60000000" in lines[ready]
        device.terminate()
        assert device.wait() == 0, "the old process ends without a word"
        assert not any("STOPPING" in line for line in notified.messages.all())
    finally:
        device.stop()
        notified.close()


def test_a_process_of_another_container_joins_and_no_request_is_lost(device: Device, tmp_path: Path) -> None:
    first, second = (NotifySocket(str(tmp_path / name)) for name in ("first", "second"))
    try:
        device.publish("plus", "1.0.0", onnx_models.plus(1), GOLDEN)
        device.start({"NOTIFY_SOCKET": first.address})
        with Load(tmp_path, device.port, INFER, REQUEST) as load:
            joined = device.join({"NOTIFY_SOCKET": second.address}, max_pending=65)
            assert device.wait() == 0
        assert {request.status for request in load.requests} == {OK}
        assert device.infer("plus", [1, 2]).status == 200
        second.messages.wait_for(lambda lines: any("READY=1" in line for line in lines))
        assert not any("MAINPID" in line for line in first.messages.all()), "it is no process of that service"
        joined.terminate()
        assert joined.wait() == 0
        assert not Path(handover_path(device.socket_path)).exists(), "the last one takes its sockets with it"
    finally:
        device.stop()
        first.close()
        second.close()


def test_what_is_open_outlives_the_watchdog_of_the_container_before(device: Device, tmp_path: Path) -> None:
    """Its unit hears of no other process: a drain without a sign of progress would be ended, with what is open."""
    notified = NotifySocket(str(tmp_path / "notify"))
    try:
        device.publish("plus", "1.0.0", onnx_models.plus(1), GOLDEN)
        device.start({"NOTIFY_SOCKET": notified.address, "WATCHDOG_USEC": "200000"})
        opened = device.connect()
        opened.request("GET", "/v2/health/live")
        assert opened.getresponse().read()
        device.join(max_pending=65)
        begun = len(notified.messages.all())
        notified.messages.wait_for(lambda lines: lines[begun:].count("WATCHDOG=1") >= 3)
        opened.request("POST", INFER, json.dumps(REQUEST))
        reply = read_reply(opened)
        assert (reply.status, reply.headers["connection"]) == (200, "close")
        assert device.wait() == 0
    finally:
        device.stop()
        notified.close()


def test_a_process_that_finds_none_to_join_starts_by_itself(device: Device) -> None:
    device.publish("plus", "1.0.0", onnx_models.plus(1), GOLDEN)
    alone = device.join()
    assert device.infer("plus", [1, 2]).status == 200
    alone.terminate()
    assert alone.wait() == 0


def test_over_tls_too(device: Device, tmp_path: Path) -> None:
    authority = Authority(tmp_path, "authority")
    certificate, key = authority.issue("server")
    tls: dict[str, Any] = {"tls_certificate": str(certificate), "tls_key": str(key)}
    device.publish("plus", "1.0.0", onnx_models.plus(1), GOLDEN)
    device.start(**tls)
    context = ssl.create_default_context(cafile=authority.path)
    opened = context.wrap_socket(device.connect().sock, server_hostname="127.0.0.1")
    waiting = socket.create_connection(("127.0.0.1", device.port))
    assert device.replace(**tls, max_pending=65) == 0
    for connection in (opened, context.wrap_socket(waiting, server_hostname="127.0.0.1")):
        connection.sendall(b"GET /v2/health/ready HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
        connection.close()


def test_where_memory_does_not_suffice_a_restart_is_needed() -> None:
    description = Description("", ["plus"], 1 << 60, "", 0)
    with pytest.raises(RestartNeededError, match=r"needs \d+ bytes of memory beside .* \d+ are left \("):
        replace(description, [], 0)
