# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Classifiers as scikit-learn's and LightGBM's converters export them: a label, and a dictionary of scores a row."""

from __future__ import annotations

import struct
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper
from server_process import Device

WEIGHTS = [1.0, 0.0, -1.0, 1.0, 0.0, -1.0]
ROWS = [[2.0, 0.0], [0.0, 3.0], [0.0, -1.0]]
SCORES = [[2.0, -2.0, 0.0], [0.0, 3.0, -3.0], [0.0, -1.0, 1.0]]


def classifier(labels: list[Any]) -> bytes:
    """Scores of three classes from two numbers by a linear classifier, and ZipMap behind them."""
    texts = isinstance(labels[0], str)
    name, key = ("classlabels_strings", TensorProto.STRING) if texts else ("classlabels_int64s", TensorProto.INT64)
    own = "classlabels_strings" if texts else "classlabels_ints"
    linear: dict[str, Any] = {"coefficients": WEIGHTS, "intercepts": [0.0] * 3, "multi_class": 0, own: labels}
    zipmap: dict[str, Any] = {name: labels}
    nodes = [
        helper.make_node("LinearClassifier", ["X"], ["label", "matrix"], domain="ai.onnx.ml", **linear),
        helper.make_node("ZipMap", ["matrix"], ["output_probability"], domain="ai.onnx.ml", **zipmap),
    ]
    value = helper.make_tensor_type_proto(TensorProto.FLOAT, [])
    scores = helper.make_sequence_type_proto(helper.make_map_type_proto(key, value))
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, 2])],
        [
            helper.make_tensor_value_info("label", key, [None]),
            helper.make_value_info("output_probability", scores),
        ],
    )
    opsets = [helper.make_opsetid("", 15), helper.make_opsetid("ai.onnx.ml", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def question(rows: list[list[float]], **more: Any) -> dict[str, Any]:
    data = [number for row in rows for number in row]
    return {"inputs": [{"name": "X", "datatype": "FP32", "shape": [len(rows), 2], "data": data}], **more}


def golden() -> dict[str, Any]:
    flat = [number for row in SCORES for number in row]
    scores = {"name": "output_probability", "datatype": "FP32", "shape": [3, 3], "data": flat}
    return {**question(ROWS), "outputs": [scores], "tolerance": {"absolute": 1e-5, "relative": 1e-5}}


@pytest.mark.parametrize("labels", [["setosa", "versicolor", "virginica"], [5, -3, 40]], ids=["texts", "numbers"])
def test_the_label_and_a_matrix_of_scores_in_the_order_of_the_classes(device: Device, labels: list[Any]) -> None:
    device.publish("iris", "1.0.0", classifier(labels), golden())
    device.start()
    reply = device.post("/v2/models/iris/infer", question(ROWS))
    assert reply.status == 200, reply.body
    label, scores = reply.json()["outputs"]
    kind = "BYTES" if isinstance(labels[0], str) else "INT64"
    assert (label["datatype"], label["data"]) == (kind, [labels[0], labels[1], labels[2]])
    assert (scores["datatype"], scores["shape"]) == ("FP32", [3, 3])
    assert scores["data"] == [number for row in SCORES for number in row]


def test_the_metadata_has_the_matrix_and_the_names_of_the_classes(device: Device) -> None:
    device.publish("iris", "1.0.0", classifier(["setosa", "versicolor", "virginica"]), golden())
    device.start()
    _label, scores = device.get("/v2/models/iris").json()["outputs"]
    assert scores == {
        "name": "output_probability",
        "datatype": "FP32",
        "shape": [-1, 3],
        "parameters": {"classes": ["setosa", "versicolor", "virginica"]},
    }
    wanted = [{"name": "output_probability", "parameters": {"classification": 1}}]
    best = device.post("/v2/models/iris/infer", question(ROWS, outputs=wanted)).json()["outputs"][0]["data"]
    assert best == ["2.000000:0:setosa", "3.000000:1:versicolor", "1.000000:2:virginica"]


def test_scores_are_selected_come_as_binary_data_and_in_batches(device: Device) -> None:
    device.publish("iris", "1.0.0", classifier([5, -3, 40]), golden())
    device.start(batch_rows=8)
    assert "batching model=iris" in device.log.wait_for_text("batching")
    wanted = [{"name": "output_probability", "parameters": {"binary_data": True}}]
    reply = device.post("/v2/models/iris/infer", question(ROWS[:2], outputs=wanted))
    length = int(reply.headers["inference-header-content-length"])
    assert struct.unpack("<6f", reply.body[length:]) == (*SCORES[0], *SCORES[1])


def test_another_sequence_is_refused(device: Device) -> None:
    graph = helper.make_graph(
        [helper.make_node("SequenceConstruct", ["x"], ["parts"])],
        "parts",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N"])],
        [helper.make_tensor_sequence_value_info("parts", TensorProto.FLOAT, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    device.publish("parts", "1.0.0", model.SerializeToString())
    device.start()
    reason = device.get("/v2/models/parts/ready").json()["error"]
    assert "output 'parts': expected one of" in reason
    assert "found seq(tensor(float)), which the protocol cannot carry. Export the model with an output" in reason
