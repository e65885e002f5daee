# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Labels and shadows of models whose answers are no scores of classes, or not in the first output: the real server goes
by what the release's probe set says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgeml_device._release.collected_input import unpack
from onnx import TensorProto, helper, numpy_helper
from onnx_models import model_of
from releases import make_release
from server_process import Device, plus_input

ROWS = [[0.25, 0.75], [0.5, -1.0]]


def rows_model(factor: float) -> bytes:
    """``vector`` (FP32 [N, 3]), then ``pair`` (FP32 [N, 2]): the input with its second column times ``factor``, and
    ``one`` (FP32 [N, 1]): its first column."""
    factors = np.array([1, factor], np.float32)
    numbers = [numpy_helper.from_array(np.array([number]), f"n{number}") for number in (0, 1)]
    return model_of(
        [
            helper.make_node("MatMul", ["x", "wide"], ["vector"]),
            helper.make_node("Mul", ["x", "factors"], ["pair"]),
            helper.make_node("Slice", ["x", "n0", "n1", "n1"], ["one"]),
        ],
        inputs=[("x", TensorProto.FLOAT, ["N", 2])],
        outputs=[
            ("vector", TensorProto.FLOAT, ["N", 3]),
            ("pair", TensorProto.FLOAT, ["N", 2]),
            ("one", TensorProto.FLOAT, ["N", 1]),
        ],
        constants=[
            numpy_helper.from_array(np.ones((2, 3), np.float32), "wide"),
            numpy_helper.from_array(factors, "factors"),
            *numbers,
        ],
    )


def publish(device: Device, version: str, factor: float = 1.0, **probe: Any) -> None:
    """Publish a version of the model ``plus`` with this probe set, if any, and make it active."""
    content = json.dumps({"inputs": [plus_input(*ROWS)], **probe}).encode() if probe else None
    device.publish_release(make_release(version, "plus", {"model.onnx": rows_model(factor)}, probe=content))


def labelled(device: Device, number: int, label: Any) -> dict[str, Any]:
    """Ask for both rows, and send what was right: the status of the reply, and what it says."""
    assert device.infer("plus", *ROWS, id=str(number)).status == 200
    reply = device.post("/v2/models/plus/feedback", {"id": str(number), "label": label})
    return {"status": reply.status, **reply.json()}


@pytest.mark.parametrize(
    ("probe", "label", "expected"),
    [
        (
            {"output": "pair", "labels": [[0.5, 1], [1, 2]]},
            [[0.25, 1], [0, -1]],
            {"absolute_errors": [0.125, 0.25]},
        ),
        (
            {"output": "pair", "labels": [[0, 1], [1, 1]], "threshold": 0.5},
            [[0, 1], [1, 1]],
            {"right": 1, "wrong": 1},
        ),
        (
            {"output": "one", "labels": [0, 1], "task": "score", "metric": "accuracy", "threshold": 0.5},
            [0, 0],
            {"right": 1, "wrong": 1},
        ),
        # Neither is the place of the highest value of the first output, which is 0 in both rows.
        ({"output": "pair", "labels": [0, 1]}, [1, 0], {"right": 2, "wrong": 0}),
    ],
    ids=["several numbers", "several labels", "a score with a threshold", "another output than the first"],
)
def test_labels_are_compared_with_what_the_release_says_are_the_answers(
    device: Device, tmp_path: Path, probe: dict[str, Any], label: Any, expected: dict[str, Any]
) -> None:
    publish(device, "1.0.0", **probe)
    device.start(prediction_log=str(tmp_path / "log.db"), prediction_log_sample_percent=100)
    found = labelled(device, 0, label)
    assert {key: found.get(key) for key in ("status", *expected)} == {"status": 200, **expected}


def test_the_label_of_one_row_may_stand_alone(device: Device, tmp_path: Path) -> None:
    publish(device, "1.0.0", output="pair", labels=[[0, 1], [1, 1]])
    device.start(prediction_log=str(tmp_path / "log.db"), prediction_log_sample_percent=100)
    for number, label in enumerate(([0, 1], [[0, 1]])):
        assert device.infer("plus", ROWS[0], id=str(number)).status == 200
        assert device.post("/v2/models/plus/feedback", {"id": str(number), "label": label}).json()["right"] == 1


def test_labels_of_another_form_are_refused_with_what_says_it(device: Device, tmp_path: Path) -> None:
    publish(device, "1.0.0")
    device.start(prediction_log=str(tmp_path / "log.db"), prediction_log_sample_percent=100)
    found = labelled(device, 0, [[0.25, 1], [0, -1]])
    assert found["status"] == 400
    assert found["error"] == (
        "label: expected 1 value for each row, as the prediction has; found 2. What the values of an output are, the "
        "release says by the task of its probe set"
    )


def test_of_answers_without_a_class_no_input_is_kept(device: Device, tmp_path: Path) -> None:
    rule = {"model": "plus", "reasons": ["disagreeing", "low_confidence"], "margin": 100}
    log: dict[str, Any] = {"prediction_log": str(tmp_path / "log.db"), "prediction_log_sample_percent": 100}
    publish(device, "1.0.0", output="pair", labels=[[0, 1], [1, 1]])
    device.start(**log, collect_inputs=[rule])
    assert labelled(device, 0, [[1, 1], [0, 0]])["wrong"] == 2
    publish(device, "1.1.0", output="pair", labels=[[0.5, 1], [1, 2]])
    assert device.load("plus").status == 200
    assert labelled(device, 1, [[1, 1], [0, 0]])["status"] == 200
    # Scores of classes, so that there is something to wait for.
    publish(device, "1.2.0", output="pair", labels=[0, 1])
    assert device.load("plus").status == 200
    assert labelled(device, 2, [0, 1])["wrong"] == 2
    device.terminate()
    assert device.wait() == 0
    kept = [unpack(path.read_bytes()) for path in tmp_path.glob("collected/plus/*.input")]
    assert {(item.version, item.predicted, item.label) for item in kept} == {("1.2.0", 1, 0), ("1.2.0", 0, 1)}


@pytest.mark.parametrize(
    ("probe", "outcome"),
    [
        ({}, "agreed"),
        ({"output": "pair", "labels": [0, 1]}, "agreed"),
        ({"output": "pair", "labels": [[0.5, 1], [1, 2]]}, "disagreed"),
    ],
    ids=["nothing said", "scores of classes", "numbers"],
)
def test_a_shadow_with_other_numbers_disagrees_where_they_are_no_scores(
    device: Device, probe: dict[str, Any], outcome: str
) -> None:
    publish(device, "1.0.0")
    publish(device, "1.1.0", 4.0, **probe)
    device.activate("plus", "1.0.0")
    device.start()
    reply = device.post("/v2/repository/models/plus/shadow", {"version": "1.1.0"}, local=True)
    assert reply.status == 200
    device.infer("plus", *ROWS)
    while not (counted := device.series("edgeml_shadow_rows_total")):
        pass
    assert {key[1]: value for key, value in counted.items()} == {outcome: 2}


def test_what_is_no_answer_is_not_compared(device: Device) -> None:
    """The candidate has other scores beside the numbers that its probe set declares as the answers."""
    publish(device, "1.0.0")
    publish(device, "1.1.0", -4.0, output="one", labels=[0.5, 1.5])
    device.activate("plus", "1.0.0")
    device.start()
    assert device.post("/v2/repository/models/plus/shadow", {"version": "1.1.0"}, local=True).status == 200
    device.infer("plus", *ROWS)
    while (counted := device.series("edgeml_shadow_rows_total")) == {}:
        pass
    assert {key[1]: value for key, value in counted.items()} == {"agreed": 2}
    assert device.metric("edgeml_shadow_output_distance_sum", model="plus", version="1.1.0") == 0
    # Where the answer was not asked for, what was asked for is compared.
    asked = {"inputs": [plus_input(*ROWS)], "outputs": [{"name": "pair"}]}
    assert device.post("/v2/models/plus/infer", asked).status == 200
    while len(counted := device.series("edgeml_shadow_rows_total")) < 2:
        pass
    assert {key[1]: value for key, value in counted.items()} == {"agreed": 2, "disagreed": 2}
