# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A load or warm-up that does not end is given up, and holds up nobody else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx_models
from server_process import Device, NotifySocket, repeat_request
from test_server_swaps import golden

FOREVER = 2**62


def endless() -> dict[str, Any]:
    """A golden test of ``onnx_models.repeat`` that does not end."""
    return {
        **repeat_request(FOREVER),
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1], "data": [0.0]}],
        "tolerance": {"absolute": 0, "relative": 0},
    }


def test_a_warm_up_that_does_not_end_is_given_up(device: Device) -> None:
    device.publish("repeat", "1.0.0", onnx_models.repeat())
    device.start(load_seconds=5)
    device.publish("repeat", "1.1.0", onnx_models.repeat(), endless())
    reply = device.load("repeat")
    assert reply.status == 400
    assert "1.1.0 was not loaded and tested within 5 s; it was given up" in reply.json()["error"]
    answer = device.post("/v2/models/repeat/infer", repeat_request(1)).json()
    assert (answer["model_version"], answer["outputs"][0]["data"]) == ("1.0.0", [1.0])
    # The same model can be loaded again.
    device.publish("repeat", "1.2.0", onnx_models.repeat())
    assert device.load("repeat").json()["version"] == "1.2.0"


def test_other_models_load_meanwhile(device: Device) -> None:
    device.publish("plus", "1.0.0", onnx_models.plus(1), golden(1))
    device.start(load_seconds=3600, drain_seconds=0)
    device.publish("repeat", "1.0.0", onnx_models.repeat(), endless())
    waiting = device.connect(local=True)
    waiting.request("POST", "/v2/repository/models/repeat/load")
    device.publish("plus", "1.1.0", onnx_models.plus(2), golden(2))
    assert device.load("plus").json()["version"] == "1.1.0"
    assert device.infer("plus", [1, 2]).json()["model_version"] == "1.1.0"
    device.terminate()
    # The end does not wait for it either.
    assert device.wait() == 0
    waiting.close()


def test_the_start_and_the_watchdog_wait_for_a_load_within_its_limit(device: Device, tmp_path: Path) -> None:
    device.publish("a-first", "1.0.0", onnx_models.repeat(), endless())
    device.publish("plus", "1.0.0", onnx_models.plus(1), golden(1))
    notify = NotifySocket(str(tmp_path / "notify.sock"))
    try:
        device.spawn({"NOTIFY_SOCKET": notify.address, "WATCHDOG_USEC": "30000000"}, load_seconds=5)
        device.wait_ready()
        messages = notify.messages.wait_for(lambda messages: any("READY=1" in message for message in messages))
    finally:
        notify.close()
    told = [message for message in messages if message != "WATCHDOG=1"]
    assert told[:3] == ["EXTEND_TIMEOUT_USEC=95000000", "WATCHDOG_USEC=35000000", "WATCHDOG_USEC=30000000"]
    assert device.infer("plus", [1, 2]).status == 200
    ready = device.get("/v2/health/ready")
    assert ready.status == 503
    assert "model 'a-first': " in json.loads(ready.body)["error"]
