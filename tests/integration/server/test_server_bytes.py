# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Elements of the datatype BYTES that are no UTF-8: images, and labels in other encodings, as Triton carries them."""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx_models
import pytest
from onnx import TensorProto, helper
from server_process import Device
from test_server_zipmap import classifier, question
from tritonclient import http as triton

# How a JPEG begins and ends, with bytes 0 in it; one in Latin-1; one that is UTF-8.
ELEMENTS = [b"\xff\xd8\xff\xe0\0\x10JFIF\0\xff\xd9", "café".encode("latin-1"), "grüße".encode(), b"", b"\0"]


def infer(device: Device, model: str, inputs: list[Any], output: str, binary: bool) -> triton.InferResult:
    with triton.InferenceServerClient(f"127.0.0.1:{device.port}") as client:
        return client.infer(model, inputs, outputs=[triton.InferRequestedOutput(output, binary_data=binary)])


def bytes_input(name: str, elements: list[bytes], shape: list[int]) -> triton.InferInput:
    found = triton.InferInput(name, shape, "BYTES")
    found.set_data_from_numpy(np.array(elements, object).reshape(shape), binary_data=True)
    return found


def index_input(*places: int) -> triton.InferInput:
    found = triton.InferInput("index", [len(places)], "INT64")
    found.set_data_from_numpy(np.array(places, np.int64))
    return found


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    """A serving device for tests that change nothing: models ``same``, ``equal`` and ``labels``."""
    device = Device(tmp_path_factory.mktemp("device"))
    try:
        device.publish("same", "1.0.0", onnx_models.identity("BYTES"))
        device.publish("equal", "1.0.0", equal())
        device.publish("labels", "1.0.0", onnx_models.labels(*ELEMENTS))
        device.start()
        yield device
    finally:
        device.stop()


def equal() -> bytes:
    """``y`` (BOOL [2, N]): whether a row of ``x`` is the first element, or the second."""
    known: list[Any] = ELEMENTS[:2]
    return onnx_models.model_of(
        [helper.make_node("Equal", ["x", "known"], ["y"])],
        inputs=[("x", TensorProto.STRING, [2, "N"])],
        outputs=[("y", TensorProto.BOOL, [2, "N"])],
        constants=[helper.make_tensor("known", TensorProto.STRING, [2, 1], known)],
        opset=19,
    )


@pytest.mark.parametrize("elements", [ELEMENTS, ELEMENTS[:1]], ids=["of several lengths", "one image"])
def test_they_pass_through_a_model_unchanged(serving: Device, elements: list[bytes]) -> None:
    found = infer(serving, "same", [bytes_input("in", elements, [len(elements)])], "out", binary=True)
    assert list(found.as_numpy("out")) == elements


def test_the_model_itself_sees_these_bytes(serving: Device) -> None:
    asked = [ELEMENTS[0], b"other", ELEMENTS[0], ELEMENTS[1]]
    found = infer(serving, "equal", [bytes_input("x", asked, [2, 2])], "y", binary=False)
    assert found.as_numpy("y").tolist() == [[True, False], [False, True]]


def test_labels_in_another_encoding_come_as_they_are(serving: Device) -> None:
    found = infer(serving, "labels", [index_input(1, 0, 2)], "label", binary=True)
    assert list(found.as_numpy("label")) == [ELEMENTS[1], ELEMENTS[0], ELEMENTS[2]]
    in_json = {"name": "index", "datatype": "INT64", "shape": [2], "data": [1, 2]}
    body = serving.post("/v2/models/labels/infer", {"inputs": [in_json]}).body
    assert b'"data":["caf\xe9","gr\xc3\xbc\xc3\x9fe"]' in body
    (output,) = json.loads(body.decode("utf-8", "surrogateescape"))["outputs"]
    assert output["shape"] == [2]
    # What is UTF-8 alone is answered as before.
    (output,) = serving.post("/v2/models/labels/infer", {"inputs": [{**in_json, "data": [2, 3]}]}).json()["outputs"]
    assert output["data"] == ["grüße", ""]


def test_json_itself_is_utf_8(serving: Device) -> None:
    for text in (b'"caf\xe9"', b'"\\udce9"'):
        body = b'{"inputs": [{"name": "in", "datatype": "BYTES", "shape": [1], "data": [%b]}]}' % text
        assert serving.request("POST", "/v2/models/same/infer", body).status == 400


def test_a_golden_file_spells_each_byte_as_half_a_character(device: Device) -> None:
    index = {"name": "index", "datatype": "INT64", "shape": [1], "data": [0]}
    expected = {"name": "label", "datatype": "BYTES", "shape": [1], "data": ["caf\udce9"]}
    golden = {"inputs": [index], "outputs": [expected], "tolerance": {"absolute": 0, "relative": 0}}
    device.publish("labels", "1.0.0", onnx_models.labels(ELEMENTS[1]), golden)
    device.start()
    device.publish("labels", "1.1.0", onnx_models.labels(b"caf\xe8"), golden)
    reply = device.load("labels")
    assert reply.status == 400
    assert r"expected caf\udce9, found caf\udce8" in reply.json()["error"]


def test_dictionaries_of_such_labels_are_refused_with_the_remedy(device: Device) -> None:
    device.publish("iris", "1.0.0", classifier(["é", "b", "c"]))
    device.start()
    assert device.post("/v2/models/iris/infer", question([[2.0, 0.0]])).status == 200
    content = classifier(["é", "b", "c"]).replace("é".encode(), b"\xe9\xe9")
    device.publish("iris", "1.1.0", content)
    reply = device.load("iris")
    assert reply.status == 400
    assert re.search("output_probability.*expected class labels in UTF-8.*zipmap=False", reply.json()["error"])


def test_what_a_file_says_about_itself_in_another_encoding_is_left_out(device: Device) -> None:
    content = onnx_models.scores({"names": '["chat", "chien", "thé"]'}).replace("é".encode(), b"\xe9\xe9")
    assert b"th\xe9\xe9" in content
    device.publish("scores", "1.0.0", content)
    device.start()
    (best, _place) = device.get("/v2/models/scores").json()["outputs"]
    assert "classes" not in best.get("parameters", {})
    x = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 0]}
    assert device.post("/v2/models/scores/infer", {"inputs": [x]}).status == 200


def test_the_prediction_log_keeps_them_readable(device: Device) -> None:
    device.publish("labels", "1.0.0", onnx_models.labels(*ELEMENTS))
    log = device.directory / "predictions.db"
    device.start(prediction_log=str(log), prediction_log_sample_percent=100)
    infer(device, "labels", [index_input(1)], "label", binary=True)
    device.terminate()
    assert device.wait() == 0
    with contextlib.closing(sqlite3.connect(log)) as connection:
        ((outputs, prediction),) = connection.execute("SELECT outputs, prediction FROM predictions")
    assert json.loads(outputs)["label"]["data"] == json.loads(prediction) == ["caf\N{REPLACEMENT CHARACTER}"]
