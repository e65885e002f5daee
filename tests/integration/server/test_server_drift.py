# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drift and label feedback, as a real server reports them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx_models
from links import PYTHON_PATH
from server_process import Device, plus_input

WINDOW = 500
LABELS = {"model": "plus", "version": "1.0.0"}


def rows(generator: np.random.Generator, shift: float) -> list[list[float]]:
    values: list[list[float]] = generator.normal(shift, 1, (WINDOW // 5, 2)).tolist()
    return values


def make_reference(device: Device, tmp_path: Path) -> Any:
    """What the command makes of many rows for ``onnx_models.plus``."""
    device.publish("plus", "0.9.0", onnx_models.plus(1))
    typical = np.random.default_rng(1).normal(0, 1, (5000, 2)).tolist()
    path = tmp_path / "rows.json"
    path.write_text(json.dumps({"inputs": [plus_input(*typical)]}))
    directory = device.store.version("plus", "0.9.0").directory
    command = [sys.executable, "-m", "edgeml_server.tools.drift_reference", directory, str(path)]
    environment = {**os.environ, "PYTHONPATH": str(PYTHON_PATH)}
    return json.loads(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)


def send_window(device: Device, generator: np.random.Generator, shift: float = 0.0) -> None:
    for _ in range(5):
        assert device.infer("plus", *rows(generator, shift)).status == 200


def wait_windows(device: Device, count: int) -> None:
    # The last of the reference's series, and so the last to be compared.
    while device.metric("edgeml_drift_windows_total", series="x_1", **LABELS) != count:
        pass


def test_drift_is_reported_and_is_over_and_ends_with_the_version(device: Device, tmp_path: Path) -> None:
    generator = np.random.default_rng(2)
    device.publish("plus", "1.0.0", onnx_models.plus(1), reference=make_reference(device, tmp_path))
    device.start(drift_window=WINDOW)
    # Not enough rows: nothing is said at all.
    for _ in range(4):
        device.infer("plus", *rows(generator, shift=9.0))
    assert device.series("edgeml_drift_psi") == {}
    assert device.series("edgeml_drift_alarm") == {}
    device.infer("plus", *rows(generator, shift=9.0))
    wait_windows(device, 1)
    assert (device.metric("edgeml_drift_psi", series="x_0", **LABELS) or 0) > 1
    assert (device.metric("edgeml_drift_ks", series="x_0", **LABELS) or 0) > 0.8
    assert device.metric("edgeml_drift_alarm", series="x_0", **LABELS) == 1
    assert device.metric("edgeml_drift_alarm", series="twice_1", **LABELS) == 1
    assert "model=plus version=1.0.0 series=sum_0 psi=" in device.log.wait_for_text("warning drift")
    send_window(device, generator)
    wait_windows(device, 2)
    assert device.metric("edgeml_drift_alarm", series="x_0", **LABELS) == 0
    assert (device.metric("edgeml_drift_psi", series="x_0", **LABELS) or 0) < 0.1
    device.log.wait_for_text("info drift is over")
    device.publish("plus", "1.1.0", onnx_models.plus(2))
    assert device.load("plus").status == 200
    assert device.series("edgeml_drift_psi") == {}
    assert device.series("edgeml_drift_windows_total") == {}


def test_a_release_with_a_wrong_reference_is_refused(device: Device) -> None:
    device.publish("plus", "1.0.0", onnx_models.plus(1))
    device.start()
    device.publish("plus", "1.1.0", onnx_models.plus(1), reference={"schema": 1, "series": []})
    reply = device.load("plus")
    assert reply.status == 400
    assert "not a drift reference for this model" in reply.json()["error"]
    assert device.infer("plus", [1, 2]).json()["model_version"] == "1.0.0"


# ---- feedback ----


def label(device: Device, request_id: str, value: Any) -> Any:
    return device.post("/v2/models/plus/feedback", {"id": request_id, "label": value})


def start_with_log(device: Device, tmp_path: Path) -> None:
    device.publish("plus", "1.0.0", onnx_models.plus(1))
    device.start(prediction_log=str(tmp_path / "predictions.db"), prediction_log_sample_percent=100)


def test_labels_give_the_live_accuracy(device: Device, tmp_path: Path) -> None:
    start_with_log(device, tmp_path)
    # The two sums are taken for scores: the higher one is the class.
    for number, row in enumerate([[1.0, 2.0], [2.0, 1.0], [1.0, 2.0], [2.0, 1.0]]):
        device.infer("plus", row, id=f"request {number}")
    reply = label(device, "request 0", 1)
    assert (reply.status, reply.json()) == (
        200,
        {"id": "request 0", "model_name": "plus", "model_version": "1.0.0", "right": 1, "wrong": 0},
    )
    assert [label(device, f"request {number}", 0).json()["right"] for number in (1, 2, 3)] == [1, 0, 1]
    assert device.metric("edgeml_feedback_labels_total", outcome="right", **LABELS) == 3
    assert device.metric("edgeml_feedback_labels_total", outcome="wrong", **LABELS) == 1
    assert device.metric("edgeml_feedback_accuracy_ratio", **LABELS) == 0.75


def test_one_label_for_each_row_of_a_batch(device: Device, tmp_path: Path) -> None:
    start_with_log(device, tmp_path)
    device.infer("plus", [1, 2], [2, 1], [1, 2], id="batch")
    assert "label: expected 3" in label(device, "batch", [1, 0]).json()["error"]
    assert label(device, "batch", [1, 0, 0]).json()["right"] == 2


def test_labels_of_numbers_give_absolute_errors(device: Device, tmp_path: Path) -> None:
    device.publish("plus", "1.0.0", onnx_models.gather())
    device.start(prediction_log=str(tmp_path / "predictions.db"), prediction_log_sample_percent=100)
    document = {"id": "a", "inputs": [{"name": "index", "datatype": "INT64", "shape": [2], "data": [1, 2]}]}
    assert device.post("/v2/models/plus/infer", document).status == 200
    assert label(device, "a", [1.5, 2]).json()["absolute_errors"] == [0.5, 0.0]
    assert device.metric("edgeml_feedback_absolute_error_sum", **LABELS) == 0.5
    assert device.metric("edgeml_feedback_absolute_error_count", **LABELS) == 2
    assert device.series("edgeml_feedback_accuracy_ratio") == {}


def test_labels_of_what_is_not_a_number(device: Device, tmp_path: Path) -> None:
    device.publish("plus", "1.0.0", onnx_models.root())
    device.publish("one", "1.0.0", onnx_models.any_rank())
    device.start(prediction_log=str(tmp_path / "predictions.db"), prediction_log_sample_percent=100)
    # Scores with NaN among them are of no class: no label is right.
    assert device.infer("plus", [-1, 4], [9, 4], id="scores").json()["outputs"][0]["data"] == [None, 2.0, 3.0, 2.0]
    assert label(device, "scores", [0, 0]).json() == {
        "id": "scores",
        "model_name": "plus",
        "model_version": "1.0.0",
        "right": 1,
        "wrong": 1,
    }
    number = {"name": "x", "datatype": "FP32", "shape": [2, 1], "data": [1.0, None]}
    assert device.post("/v2/models/one/infer", {"id": "numbers", "inputs": [number]}).status == 200
    reply = device.post("/v2/models/one/feedback", {"id": "numbers", "label": [1.0, 2.0]})
    assert reply.status == 400
    assert "the prediction of row 1 is not finite" in reply.json()["error"]


def test_labels_that_fit_nothing_are_refused(device: Device, tmp_path: Path) -> None:
    start_with_log(device, tmp_path)
    device.infer("plus", [1, 2], id="known")
    device.post("/v2/models/plus/infer", {"id": "failed", "inputs": []})
    assert label(device, "unknown", 1).status == 404
    assert label(device, "failed", 1).status == 404
    assert "expected int, as the prediction is" in label(device, "known", "one").json()["error"]
    assert "expected int, as the prediction is" in label(device, "known", True).json()["error"]
    wrong: list[Any] = [{"id": "known"}, {"id": 1, "label": 1}, [], None]
    for document in wrong:
        assert device.post("/v2/models/plus/feedback", document).status == 400
    assert label(device, "known", 1).status == 200
    again = label(device, "known", 0)
    assert again.status == 409
    assert "has its label already" in again.json()["error"]
    assert device.metric("edgeml_feedback_accuracy_ratio", **LABELS) == 1


def test_without_a_log_there_is_no_feedback(shared_device: Device) -> None:
    reply = shared_device.post("/v2/models/plus/feedback", {"id": "a", "label": 1})
    assert reply.status == 503
    assert "keeps no prediction log" in reply.json()["error"]
