# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Models whose answers are no scores of classes, the whole way: published from samples as NumPy has them, rolled out to
devices with the real server, judged by the gate, and taken back by labels that come late."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from controller import Ansible, Run
from detectors import detector, detector_holdout
from device import Device
from onnx import TensorProto, helper, numpy_helper
from onnx_models import model_of
from publications import Case
from releases import read_release
from rollouts import at_once

pytestmark = pytest.mark.end_to_end

NAMES = ("edge-s1", "edge-l1")
THRESHOLD = 0.5
LABELLED_ROWS, REQUESTS = 32, 4

X = np.random.default_rng(5).standard_normal((400, 3)).astype(np.float32)
WEIGHTS = np.array([[1.0, -2.0], [0.5, 1.0], [2.0, 0.25]], np.float32)
PRICES = X @ WEIGHTS + np.random.default_rng(6).normal(0, 0.1, (400, 2))
IS_LARGE = PRICES[:, 0] > 0


def answers(factor: float) -> Any:
    """What a version answers: both prices, of which the second is multiplied by ``factor``."""
    return X @ (WEIGHTS * np.array([1.0, factor], np.float32))


def content(factor: float) -> bytes:
    """``embedding`` (FP32 [N, 3]), then ``prices`` (FP32 [N, 2]), and ``is_large`` (FP32 [N, 1])."""
    numbers = [numpy_helper.from_array(np.array([number]), f"n{number}") for number in (0, 1)]
    weights = WEIGHTS * np.array([1.0, factor], np.float32)
    return model_of(
        [
            helper.make_node("Neg", ["x"], ["embedding"]),
            helper.make_node("MatMul", ["x", "weights"], ["prices"]),
            helper.make_node("Slice", ["prices", "n0", "n1", "n1"], ["first"]),
            helper.make_node("Sigmoid", ["first"], ["is_large"]),
        ],
        inputs=[("x", TensorProto.FLOAT, ["N", 3])],
        outputs=[
            ("embedding", TensorProto.FLOAT, ["N", 3]),
            ("prices", TensorProto.FLOAT, ["N", 2]),
            ("is_large", TensorProto.FLOAT, ["N", 1]),
        ],
        constants=[numpy_helper.from_array(weights, "weights"), *numbers],
    )


def publish(root: Path, model: str, version: str, factor: float, samples: dict[str, Any], **options: Any) -> None:
    """Publish a version into the repository below ``root``."""
    directory = root / f"{model}-{version}"
    directory.mkdir()
    case = Case(directory, content(factor))
    case.samples = samples
    case.options.update(model=model, version=version, repository=str(root / "repository"), **options)
    assert case.publish().changed


@pytest.fixture
def devices(fleet: dict[str, Device]) -> Iterator[list[Device]]:
    """Two devices that log predictions, so that labels can be sent for them."""
    found = [fleet[name] for name in NAMES]
    for device in found:
        device.stop_server()
        device.start_server(prediction_log="/run/edgeml/predictions.db", prediction_log_sample_percent=100)
    yield found
    for device in found:
        device.stop_server()


def rollout(ansible: Ansible, root: Path, model: str, version: str) -> tuple[Run, dict[str, Any]]:
    """Roll a version out to all devices at once; the run, and the ledger's book of it."""
    variables = {**at_once(root / "ledger"), "model_repository": str(root / "repository")}
    run = ansible.run(
        "edgeml.fleet.rollout", **variables, model_name=model, model_version=version, rollout_waves=["100%"]
    )
    return run, json.loads((root / "ledger" / f"{model}-{version}-1.json").read_text())


def predict_and_label(device: Device, name: str, labels: Any) -> None:
    """Have a client ask with the first samples, and say later what was right."""
    rows = {"name": "x", "datatype": "FP32", "shape": [LABELLED_ROWS, 3], "data": X[:LABELLED_ROWS].flatten().tolist()}
    for number in range(REQUESTS):
        request = f"{name}-{number}"
        assert device.post("/v2/models/alarm/infer", {"id": request, "inputs": [rows]}) == 200
        feedback = {"id": request, "label": [int(label) for label in labels[:LABELLED_ROWS]]}
        assert device.post("/v2/models/alarm/feedback", feedback) == 200


def test_a_regression_with_several_numbers_is_stopped_by_its_error(tmp_path: Path, devices: list[Device]) -> None:
    # A data frame's values are in Fortran order.
    samples = {"x": X, "labels": np.asfortranarray(PRICES)}
    for version, factor in (("1.0.0", 1.0), ("1.1.0", 1.5)):
        publish(tmp_path, "price", version, factor, samples, metric="rmse")
    for device in devices:
        device.serve(read_release(tmp_path / "repository", "price", "1.0.0"))

    run, book = rollout(Ansible(tmp_path, devices), tmp_path, "price", "1.1.0")
    assert run.code == 2, run
    errors = [np.sqrt(((answers(factor) - PRICES) ** 2).mean()) for factor in (1.0, 1.5)]
    found = [finding for finding in book["waves"][0]["findings"] if finding["check"] == "probe error"]
    assert {finding["verdict"] for finding in found} == {"fail"}
    for finding in found:
        assert finding["estimate"] == pytest.approx(errors[1] / errors[0], rel=1e-3)
    assert [device.server.serving_version("price") for device in devices] == ["1.0.0"] * 2


def test_a_score_with_a_threshold_is_taken_back_by_its_labels(tmp_path: Path, devices: list[Device]) -> None:
    settings = {"output": "is_large", "task": "score", "metric": "accuracy", "threshold": THRESHOLD}
    samples = {"x": X, "labels": IS_LARGE.astype(float), "probe": json.dumps(settings)}
    for version, factor in (("1.0.0", 1.0), ("1.1.0", 2.0)):
        publish(tmp_path, "alarm", version, factor, samples)
    for device in devices:
        device.serve(read_release(tmp_path / "repository", "alarm", "1.0.0"))
        predict_and_label(device, "before", IS_LARGE)

    ansible = Ansible(tmp_path, devices)
    run, _book = rollout(ansible, tmp_path, "alarm", "1.1.0")
    assert run.code == 0, run
    for device in devices:
        predict_and_label(device, "after", ~IS_LARGE)
    late = ansible.run(
        "edgeml.fleet.reconcile",
        rollout_ledger=str(tmp_path / "ledger"),
        model_repository=str(tmp_path / "repository"),
    )
    assert late.code == 2, late
    assert [device.server.serving_version("alarm") for device in devices] == ["1.0.0"] * 2
    book = json.loads((tmp_path / "ledger" / "alarm-1.1.0-1.json").read_text())
    assert book["why"].startswith("labels that came later: fail: live accuracy drop")


def publish_detector(root: Path, version: str, shift: float) -> None:
    """Publish a detector whose boxes are so many pixels beside where they should be, judged by the true ones."""
    directory = root / f"finder-{version}"
    directory.mkdir()
    case = Case(directory, detector(shift))
    features, truth = detector_holdout()
    settings = {"task": "reference", "metric": "distance", "output": "boxes", "ragged": True, "unordered": True}
    case.samples = {"features": features, "labels": truth, "probe": json.dumps(settings)}
    case.options.update(model="finder", version=version, repository=str(root / "repository"))
    assert case.publish().changed


def test_a_detector_with_as_many_boxes_as_it_finds_is_judged_by_the_true_ones(
    tmp_path: Path, devices: list[Device]
) -> None:
    """Better boxes pass and serve; worse ones are stopped after the first wave."""
    for version, shift in (("1.0.0", 2.0), ("1.1.0", 0.5), ("1.2.0", 6.0)):
        publish_detector(tmp_path, version, shift)
    for device in devices:
        device.serve(read_release(tmp_path / "repository", "finder", "1.0.0"))

    ansible = Ansible(tmp_path, devices)
    better, book = rollout(ansible, tmp_path, "finder", "1.1.0")
    assert better.code == 0, better
    found = [finding for finding in book["waves"][0]["findings"] if finding["check"] == "probe error"]
    assert {finding["verdict"] for finding in found} == {"pass"}
    assert all(finding["estimate"] < 0.5 for finding in found)

    features, _truth = detector_holdout()
    session = onnxruntime.InferenceSession(detector(0.5), providers=["CPUExecutionProvider"])
    names = ["boxes", "scores", "classes"]
    counts = set()
    for row in range(12):
        one = features[row : row + 1]
        wanted = dict(zip(names, session.run(names, {"features": one}), strict=True))
        counts.add(len(wanted["boxes"]))
        tensor = {"name": "features", "datatype": "FP32", "shape": list(one.shape), "data": one.flatten().tolist()}
        for device in devices:
            reply, _tail = device.server.infer("finder", {"inputs": [tensor]}, b"")
            assert reply["model_version"] == "1.1.0"
            outputs = {output["name"]: output for output in reply["outputs"]}
            for name, values in wanted.items():
                assert outputs[name]["shape"] == list(values.shape)
                np.testing.assert_allclose(outputs[name]["data"], values.flatten(), rtol=1e-6)
    assert len(counts) > 2

    worse, book = rollout(ansible, tmp_path, "finder", "1.2.0")
    assert worse.code == 2, worse
    found = [finding for finding in book["waves"][0]["findings"] if finding["check"] == "probe error"]
    assert {finding["verdict"] for finding in found} == {"fail"}
    assert all(finding["estimate"] > 5 for finding in found)
    assert [device.server.serving_version("finder") for device in devices] == ["1.1.0"] * 2
