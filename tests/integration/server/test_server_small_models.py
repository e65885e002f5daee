# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The smallest models run in the event loop: clients notice nothing of it."""

from __future__ import annotations

import json

import onnx_models
from edgeml_server.models.quick_calls import CALLS
from server_process import Device, plus_input, repeat_request


def good(device: Device) -> float:
    """How many requests for the version that serves were answered well."""
    counts = device.series("edgeml_inference_requests_total")
    return sum(value for labels, value in counts.items() if {"plus", "200"} <= set(labels))


def test_answers_errors_counts_and_swaps_are_the_same(device: Device) -> None:
    device.publish("plus", "1.0.0", onnx_models.plus(1))
    device.publish("repeat", "1.0.0", onnx_models.repeat())
    device.start()
    for number in range(2 * CALLS):
        reply = device.infer("plus", [number, 2])
        assert reply.json()["outputs"][0]["data"] == [number + 1, 3.0]
    wrong = device.post("/v2/models/plus/infer", {"inputs": [{**plus_input([1, 2]), "datatype": "INT8"}]})
    assert wrong.status == 400
    assert device.metric("edgeml_inference_in_flight_requests") == 0
    slow = device.connect()
    try:
        slow.request("POST", "/v2/models/repeat/infer", json.dumps(repeat_request(2**62)))
        device.wait_in_flight(1)
        assert device.infer("plus", [1, 2]).status == 200, "also beside one that runs in a thread"
    finally:
        slow.close()
    assert good(device) == 2 * CALLS + 1
    device.publish("plus", "2.0.0", onnx_models.plus(10))
    assert device.load("plus").status == 200
    for _request in range(2 * CALLS):
        assert device.infer("plus", [1, 2]).json()["outputs"][0]["data"] == [11.0, 12.0]
    assert good(device) == 2 * CALLS
