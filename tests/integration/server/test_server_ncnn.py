# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""ncnn models: loaded, proved by their golden file, served, swapped and refused like any other."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import ncnn_models
import pytest
from onnx_models import plus
from releases import make_release, variant_entry
from server_process import Device, wrong_answers_to_six_clients

GRAPH, WEIGHTS = ncnn_models.GRAPH, ncnn_models.WEIGHTS
PRODUCT = ncnn_models.weighted([[1, 2], [3, 4], [5, 6]], [0.5, 0, 0])


def tensor(name: str, shape: list[int], *data: float) -> dict[str, Any]:
    return {"name": name, "datatype": "FP32", "shape": shape, "data": list(data)}


def golden(addend: float) -> dict[str, Any]:
    outputs = [tensor("sum", [2, 2], *(addend + number for number in (1, 2, 3, 4)))]
    tolerance = {"absolute": 1e-6, "relative": 0}
    return {"inputs": [tensor("x", [2, 2], 1, 2, 3, 4)], "outputs": outputs, "tolerance": tolerance}


def publish(device: Device, model: str, version: str, files: Mapping[str, bytes], test: Any = None) -> None:
    """Put a release of an ncnn model into the store."""
    entry = variant_entry(
        files, "ncnn-fp32", format="ncnn", runtime={"name": "ncnn", "minimum": "1.0.20230223"}, memory_bytes=1 << 20
    )
    content = None if test is None else json.dumps(test).encode()
    device.publish_release(make_release(version, model, files, content, variants=[entry]))


@pytest.fixture(scope="module")
def ncnn_device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    """A serving device: models ``plus``, ``product``, ``channels`` and ``pair``, all of ncnn."""
    device = Device(tmp_path_factory.mktemp("device"))
    try:
        publish(device, "plus", "1.0.0", ncnn_models.plus(1), golden(1))
        publish(device, "product", "1.0.0", PRODUCT)
        publish(device, "channels", "1.0.0", ncnn_models.channels())
        publish(device, "pair", "1.0.0", ncnn_models.two_inputs())
        device.start(workers=4)
        yield device
    finally:
        device.stop()


def test_metadata_has_the_sizes_of_the_graph(ncnn_device: Device) -> None:
    assert ncnn_device.get("/v2/models/channels").json() == {
        "name": "channels",
        "versions": ["1.0.0"],
        "platform": "ncnn",
        "inputs": [{"name": "image", "datatype": "FP32", "shape": [-1, 3, 3, 5]}],
        "outputs": [{"name": "largest", "datatype": "FP32", "shape": [-1, 3]}],
    }


@pytest.mark.parametrize("rows", [1, 3])
def test_each_row_is_answered(ncnn_device: Device, rows: int) -> None:
    inputs = [tensor("x", [rows, 2], *(float(number) for number in range(2 * rows)))]
    (output,) = ncnn_device.post("/v2/models/product/infer", {"inputs": inputs}).json()["outputs"]
    assert output["shape"] == [rows, 3]
    assert output["data"] == [value for row in range(rows) for value in (6 * row + 2.5, 14 * row + 4.0, 22 * row + 6.0)]


def test_channels_lie_apart_in_memory_and_are_read_right(ncnn_device: Device) -> None:
    """15 numbers of a channel are no whole number of 16 bytes, at which ncnn lets each begin."""
    data = [float(number) for number in range(90)]
    (output,) = ncnn_device.post(
        "/v2/models/channels/infer", {"inputs": [tensor("image", [2, 3, 3, 5], *data)]}
    ).json()["outputs"]
    assert output["data"] == [14, 29, 44, 59, 74, 89]


def test_two_inputs_have_the_same_rows(ncnn_device: Device) -> None:
    one, two = [1.0] * 6, [float(number) for number in range(6)]
    reply = ncnn_device.post(
        "/v2/models/pair/infer", {"inputs": [tensor("a", [1, 2, 3], *two), tensor("b", [1, 2, 3], *one)]}
    ).json()
    found = {output["name"]: output["data"] for output in reply["outputs"]}
    assert found == {"sum": [value + 1 for value in two], "product": two}
    wrong = {"inputs": [tensor("a", [1, 2, 3], *two), tensor("b", [2, 2, 3], *one, *one)]}
    assert ncnn_device.post("/v2/models/pair/infer", wrong).status == 400


def test_an_input_of_another_size_never_reaches_ncnn(ncnn_device: Device) -> None:
    """ncnn computes with what lies behind the last number, and says nothing."""
    reply = ncnn_device.post("/v2/models/product/infer", {"inputs": [tensor("x", [1, 1], 1.0)]})
    assert (reply.status, "expected [-1, 2]" in reply.json()["error"]) == (400, True), reply.body


def test_requests_at_once_do_not_meet_each_others_tensors(ncnn_device: Device) -> None:
    assert wrong_answers_to_six_clients(ncnn_device) == []


def answer(device: Device) -> tuple[str, list[float]]:
    """The version that answers, and its answer to 1 and 2."""
    reply = device.infer("plus", [1, 2]).json()
    return reply["model_version"], reply["outputs"][0]["data"]


def test_a_swap_from_onnx_to_ncnn_and_one_that_fails_its_golden_test(device: Device) -> None:
    device.publish("plus", "1.0.0", plus(1))
    device.start()
    publish(device, "plus", "1.1.0", ncnn_models.plus(10), golden(10))
    assert device.load("plus").status == 200
    assert answer(device) == ("1.1.0", [11.0, 12.0])
    publish(device, "plus", "1.2.0", ncnn_models.plus(20), golden(10))
    refused = device.load("plus")
    assert refused.status != 200
    assert "sum" in refused.json()["error"]
    assert answer(device) == ("1.1.0", [11.0, 12.0])


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({GRAPH: b"PK", WEIGHTS: bytes(4)}, "expected the graph of an ncnn model: line 1: expected 7767517"),
        (ncnn_models.files(["Input x 0 1 x", "ReLU n 1 1 x y"]), "input 'x': expected its size in the layer Input"),
        (ncnn_models.files(["Input x 0 1 x 0=2", "Nope n 1 1 x y"]), "model.param: ncnn 1.0.2"),
        ({**PRODUCT, WEIGHTS: bytes(8)}, "model.bin: ncnn 1.0.2"),
    ],
)
def test_a_model_that_cannot_be_loaded_says_why(device: Device, files: Mapping[str, bytes], expected: str) -> None:
    publish(device, "broken", "1.0.0", files)
    device.start()
    assert expected in device.get("/v2/models/broken/ready").json()["error"]
