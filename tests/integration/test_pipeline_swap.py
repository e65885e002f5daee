# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A release of three models, swapped in and reverted by ``model_swap`` while clients ask all of its parts."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from controller import Ansible
from device import GUARD_SECONDS, Device
from onnx import TensorProto, helper
from releases import make_pipeline, publish

PARTS = ("classifier", "detector", "recogniser")
ADDENDS = {"1.0.0": 1.0, "2.0.0": 10.0}
CLIENTS = 3


def plus(addend: float) -> bytes:
    """A model whose answer is ``x`` + addend."""
    shape: list[str | int | None] = ["N", 1]
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "addend"], ["sum"])],
        "plus",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("sum", TensorProto.FLOAT, shape)],
        [helper.make_tensor("addend", TensorProto.FLOAT, [1], [addend])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    content: bytes = model.SerializeToString()
    return content


def tensor(name: str, *values: float) -> dict[str, Any]:
    return {"name": name, "datatype": "FP32", "shape": [len(values), 1], "data": list(values)}


def reader(repository: Path, version: str) -> None:
    """Publish a version, whose parts all add the same number; its probe set asks the recogniser."""
    addend = ADDENDS[version]
    tolerance = {"absolute": 0.001, "relative": 0}
    golden = {"inputs": [tensor("x", 1)], "outputs": [tensor("sum", 1 + addend)], "tolerance": tolerance}
    labels = [value + 1.0 for value in range(40)]
    questions = {"inputs": [tensor("x", *range(40))], "output": "sum", "labels": labels, "task": "regression"}
    made = make_pipeline(
        version,
        "reader",
        {part: plus(addend) for part in PARTS},
        golden={part: json.dumps({**golden, "description": part}).encode() for part in PARTS},
        probe={"recogniser": json.dumps(questions).encode()},
    )
    publish(made, repository)


class Client(threading.Thread):
    """Asks the parts again and again, each result from the first part on by the version that answered first.

    ``results`` are the sums of all parts' additions, ``versions`` what answered questions that name no version.
    """

    def __init__(self, address: str, stop: threading.Event) -> None:
        super().__init__()
        self.results: list[float] = []
        self.versions: list[str] = []
        self.wrong: list[object] = []
        self._connection = HTTPConnection("localhost")
        self._connection.sock = socket.socket(socket.AF_UNIX)
        self._connection.sock.settimeout(GUARD_SECONDS)
        self._connection.sock.connect(address)
        self._ended = stop

    def run(self) -> None:
        while not self._ended.is_set():
            try:
                self._pinned()
                self.versions += [self._ask(part, 0.0)[0] for part in PARTS]
            except (OSError, AssertionError, KeyError) as error:
                self.wrong.append(error)
                return
        self._connection.close()

    def _pinned(self) -> None:
        version, value = self._ask("detector", 0.0)
        for part in ("classifier", "recogniser"):
            _version, value = self._ask(f"{part}/versions/{version}", value)
        self.results.append(value)

    def _ask(self, path: str, value: float) -> tuple[str, float]:
        body = json.dumps({"inputs": [tensor("x", value)]})
        self._connection.request("POST", f"/v2/models/reader/{path}/infer", body)
        reply = self._connection.getresponse()
        document = json.loads(reply.read())
        assert reply.status == 200, document
        return document["model_version"], document["outputs"][0]["data"][0]


@contextmanager
def clients(address: str) -> Iterator[list[Client]]:
    stop = threading.Event()
    asking = [Client(address, stop) for _client in range(CLIENTS)]
    for client in asking:
        client.start()
    try:
        yield asking
    finally:
        stop.set()
        for client in asking:
            client.join()


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    with Device(tmp_path / "device", "edge-r1") as device:
        yield device


def wait_for_results(asking: list[Client], count: int) -> None:
    """Wait until each client has ``count`` results more."""
    aims = [len(client.results) + count for client in asking]
    while any(len(client.results) < aim and not client.wrong for client, aim in zip(asking, aims, strict=True)):
        time.sleep(0.01)


def test_no_client_sees_parts_of_two_versions(tmp_path: Path, device: Device) -> None:
    repository = tmp_path / "repository"
    for version in ADDENDS:
        reader(repository, version)
    ansible = Ansible(tmp_path, [device])

    def swap(version: str, state: str = "active") -> dict[str, Any]:
        options = {"model": "reader", "version": version, "state": state, "trial_seconds": 0, "min_ready_seconds": 0.2}
        source = {"repository": str(repository)} if state == "active" else {}
        return {"edgeml.fleet.model_swap": {**options, **source}}

    (first,) = ansible.tasks(swap("1.0.0"))
    assert (first["live"], first["variant"]) == ("1.0.0", "onnx-fp32")
    with clients(device.server.address) as asking:
        wait_for_results(asking, 3)
        (swapped,) = ansible.tasks(swap("2.0.0"))
        wait_for_results(asking, 3)
        (reverted,) = ansible.tasks(swap("2.0.0", "previous"))
        wait_for_results(asking, 3)

    assert (swapped["before"]["active"], swapped["live"]) == ("1.0.0", "2.0.0")
    assert swapped["baseline"]["metric"] == "mae"
    assert (swapped["baseline"]["version"], swapped["baseline"]["value"]) == ("1.0.0", 0.0)
    assert reverted["live"] == "1.0.0"
    for client in asking:
        assert client.wrong == []
        assert set(client.results) == {3.0, 30.0}, "every result is from parts of one version"
        switches = [pair for pair in zip(client.versions, client.versions[1:], strict=False) if len(set(pair)) > 1]
        assert switches == [("1.0.0", "2.0.0"), ("2.0.0", "1.0.0")], "no part is behind another"
    events = [(entry["event"], entry["from"], entry["to"]) for entry in device.store.journal("reader").history()]
    assert [event for event in events if event[1] != event[2]] == [
        ("activate", None, "1.0.0"),
        ("activate", "1.0.0", "2.0.0"),
        ("revert", "2.0.0", "1.0.0"),
    ]
