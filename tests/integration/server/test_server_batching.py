# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests that wait run together, and nobody notices it by the answers."""

from __future__ import annotations

import json
import threading
from typing import Any

import onnx_models
import pytest
import tflite_models
from server_process import Device, Reply, plus_input, read_reply, repeat_request
from test_server_swaps import golden

BUSY_ROUNDS = 1_000_000
LABELS = {"model": "plus", "version": "1.0.0"}


def output(name: str, datatype: str, shape: list[int], data: list[Any]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


def golden_for(inputs: list[Any], outputs: list[Any]) -> dict[str, Any]:
    return {"inputs": inputs, "outputs": outputs, "tolerance": {"absolute": 1e-4, "relative": 1e-3}}


def index_input(*places: int) -> dict[str, Any]:
    return {"name": "index", "datatype": "INT64", "shape": [len(places)], "data": list(places)}


def together(device: Device, model: str, *requests: Any) -> list[Reply]:
    """The replies to requests that are all sent while the only place to run in is taken."""
    busy = device.connect()
    busy.request("POST", "/v2/models/repeat/infer", json.dumps(repeat_request(BUSY_ROUNDS)))
    device.wait_in_flight(1)
    replies: list[Reply | None] = [None] * len(requests)

    def send(number: int) -> None:
        replies[number] = device.post(f"/v2/models/{model}/infer", requests[number])

    threads = [threading.Thread(target=send, args=(number,)) for number in range(len(requests))]
    for thread in threads:
        thread.start()
    device.wait_in_flight(1 + len(requests))
    assert read_reply(busy).status == 200
    busy.close()
    for thread in threads:
        thread.join()
    return [reply for reply in replies if reply is not None]


def start(device: Device, **config: Any) -> None:
    device.publish("repeat", "1.0.0", onnx_models.repeat())
    device.start(**{"workers": 1, "batch_rows": 8, **config})


@pytest.mark.parametrize("model_format", ["onnx", "tflite"])
def test_requests_that_wait_run_together(device: Device, model_format: str) -> None:
    tflite = (tflite_models.DIRECTORY / "plus_one.tflite").read_bytes()
    content = onnx_models.plus(1) if model_format == "onnx" else tflite
    device.publish("plus", "1.0.0", content, golden(1), model_format)
    start(device)
    device.log.wait_for_text("info batching model=plus version=1.0.0")
    device.log.wait_for_text("info no batching model=repeat version=1.0.0")
    requests = [{"id": str(number), "inputs": [plus_input(*[[number, 0.0]] * (number + 1))]} for number in range(3)]
    for number, reply in enumerate(together(device, "plus", *requests)):
        document = reply.json()
        assert document["id"] == str(number)
        assert document["outputs"][0]["data"] == [number + 1.0, 1.0] * (number + 1)
    assert device.metric("edgeml_inference_batch_rows_count", **LABELS) == 1
    assert device.metric("edgeml_inference_batch_rows_sum", **LABELS) == 6


def test_a_full_batch_takes_no_more_and_large_requests_run_alone(device: Device) -> None:
    device.publish("plus", "1.0.0", onnx_models.plus(1), golden(1))
    start(device, batch_rows=4)
    requests = [{"inputs": [plus_input(*[[1.0, 2.0]] * rows)]} for rows in (3, 3, 9)]
    for rows, reply in zip((3, 3, 9), together(device, "plus", *requests), strict=True):
        assert reply.json()["outputs"][0]["data"] == [2.0, 3.0] * rows
    assert device.metric("edgeml_inference_batch_rows_count", **LABELS) == 2


def test_different_requests_do_not_mix(device: Device) -> None:
    device.publish("plus", "1.0.0", onnx_models.plus(1), golden(1))
    start(device)
    wanted = [["sum"], ["twice"], ["sum", "twice"]]
    requests = [{"inputs": [plus_input([1, 2])], "outputs": [{"name": name} for name in names]} for names in wanted]
    for names, reply in zip(wanted, together(device, "plus", *requests), strict=True):
        assert [item["name"] for item in reply.json()["outputs"]] == names


def test_a_request_that_fails_in_company_fails_alone(device: Device) -> None:
    test = golden_for([index_input(0, 1)], [output("y", "FP32", [2], [0.0, 1.0])])
    device.publish("plus", "1.0.0", onnx_models.gather(), test)
    start(device)
    good, bad, other = together(device, "plus", *[{"inputs": [index_input(place)]} for place in (1, 7, 2)])
    assert good.json()["outputs"][0]["data"] == [1.0]
    assert bad.status == 400
    assert other.json()["outputs"][0]["data"] == [2.0]


def test_a_model_whose_rows_depend_on_each_other_is_not_batched(device: Device) -> None:
    inputs = [plus_input([1, 2], [3, 6])]
    test = golden_for(inputs, [output("y", "FP32", [2, 2], [-1.0, -2.0, 1.0, 2.0])])
    device.publish("plus", "1.0.0", onnx_models.centred(), test)
    start(device)
    device.log.wait_for_text("info no batching model=plus")
    for reply in together(device, "plus", *[{"inputs": [plus_input([float(number), 1.0])]} for number in range(3)]):
        assert reply.json()["outputs"][0]["data"] == [0.0, 0.0]


def test_by_default_nothing_is_batched(shared_device: Device) -> None:
    assert shared_device.series("edgeml_inference_batch_rows_count") == {}
