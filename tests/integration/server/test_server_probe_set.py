# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Probe sets of every task, asked of the real server as a device asks it: what comes out is the model's quality."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from edgeml_device._common.errors import ServerError, StoreError
from edgeml_device._common.packed import unpack_flags, unpack_numbers
from edgeml_device._device.client import Server
from edgeml_device._device.probe_set import measure_probe, probe_result
from onnx import TensorProto, helper, numpy_helper
from onnx_models import model_of
from server_process import Device

Array = np.ndarray[Any, Any]

CLASSES = ("setosa", "versicolor", "virginica")
ROWS = 150


def flowers() -> tuple[Array, Array]:
    """Three classes of 50 rows in four numbers, which a linear model tells apart but for a few, as iris has them."""
    chance = np.random.default_rng(4)
    centres = np.array([[5.0, 3.4, 1.5, 0.2], [5.9, 2.8, 4.3, 1.3], [6.6, 3.0, 5.6, 2.0]])
    labels = np.repeat(np.arange(3), 50)
    rows = centres[labels] + chance.normal(0, 0.5, (ROWS, 4))
    order = chance.permutation(ROWS)
    return rows[order].astype(np.float32), labels[order]


X, Y = flowers()
MEANS = np.array([X[label == Y].mean(axis=0) for label in range(3)], dtype=np.float32)
# The nearest mean, as a linear model.
WEIGHTS, BIAS = MEANS.T.copy(), (-0.5 * (MEANS**2).sum(axis=1)).astype(np.float32)
SCORES = X @ WEIGHTS + BIAS
ACCURACY = float((SCORES.argmax(axis=1) == Y).mean())
PRICES = (X @ np.array([1.0, -2.0, 0.5, 3.0], dtype=np.float32)).astype(np.float32)


def flower_model(batch: int | str = "N") -> bytes:
    """``label`` (INT64), ``name`` (BYTES), ``scores`` (FP32, three), ``is_last`` (FP32, one), ``price`` (FP32, one)."""
    nodes = [
        helper.make_node("MatMul", ["x", "weights"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["scores"]),
        helper.make_node("ArgMax", ["scores"], ["label"], axis=1, keepdims=0),
        helper.make_node("Gather", ["names", "label"], ["name"]),
        helper.make_node("Slice", ["scores", "two", "three", "one"], ["is_last"]),
        helper.make_node("MatMul", ["x", "slopes"], ["price"]),
    ]
    constants = [
        numpy_helper.from_array(WEIGHTS, "weights"),
        numpy_helper.from_array(BIAS, "bias"),
        numpy_helper.from_array(np.array(CLASSES, dtype=object), "names"),
        *(numpy_helper.from_array(np.array([number]), name) for name, number in (("one", 1), ("two", 2), ("three", 3))),
        numpy_helper.from_array(np.array([[1.0], [-2.0], [0.5], [3.0]], dtype=np.float32), "slopes"),
    ]
    return model_of(
        nodes,
        inputs=[("x", TensorProto.FLOAT, [batch, 4])],
        outputs=[
            ("label", TensorProto.INT64, [batch]),
            ("name", TensorProto.STRING, [batch]),
            ("scores", TensorProto.FLOAT, [batch, 3]),
            ("is_last", TensorProto.FLOAT, [batch, 1]),
            ("price", TensorProto.FLOAT, [batch, 1]),
        ],
        constants=constants,
    )


def columns_model() -> bytes:
    """``total`` = ``a`` + ``b`` (FP32 [N, 1]) + ``flag`` (INT64 [N, 1]): columns of several types, as a table has."""
    return model_of(
        [
            helper.make_node("Add", ["a", "b"], ["sum"]),
            helper.make_node("Cast", ["flag"], ["number"], to=TensorProto.FLOAT),
            helper.make_node("Add", ["sum", "number"], ["total"]),
        ],
        inputs=[
            ("a", TensorProto.FLOAT, ["N", 1]),
            ("b", TensorProto.FLOAT, ["N", 1]),
            ("flag", TensorProto.INT64, ["N", 1]),
        ],
        outputs=[("total", TensorProto.FLOAT, ["N", 1])],
    )


def image_model() -> bytes:
    """``brightness`` (FP32 [1, 3]) of the channels of one image, and the first channel as ``mask``."""
    return model_of(
        [
            helper.make_node("ReduceMean", ["image"], ["brightness"], axes=[2, 3], keepdims=0),
            helper.make_node("Slice", ["image", "zero", "first", "axis"], ["mask"]),
        ],
        inputs=[("image", TensorProto.FLOAT, [1, 3, 224, 224])],
        outputs=[("brightness", TensorProto.FLOAT, [1, 3]), ("mask", TensorProto.FLOAT, [1, 1, 224, 224])],
        constants=[
            numpy_helper.from_array(np.array([number]), name)
            for name, number in (("zero", 0), ("first", 1), ("axis", 1))
        ],
    )


def boxes_model() -> bytes:
    """``found`` (FP32 [M, 4]): the boxes with a score above 0.5, those that overlap once; by the real operator."""
    return model_of(
        [
            helper.make_node("NonMaxSuppression", ["boxes", "scores", "ten", "half", "half"], ["selected"]),
            helper.make_node("Gather", ["selected", "two"], ["places"], axis=1),
            helper.make_node("Squeeze", ["boxes", "zero"], ["flat"]),
            helper.make_node("Gather", ["flat", "places"], ["found"], axis=0),
        ],
        inputs=[("boxes", TensorProto.FLOAT, [1, 6, 4]), ("scores", TensorProto.FLOAT, [1, 1, 6])],
        outputs=[("found", TensorProto.FLOAT, ["M", 4])],
        constants=[
            numpy_helper.from_array(np.array([10]), "ten"),
            numpy_helper.from_array(np.array([0.5], np.float32), "half"),
            numpy_helper.from_array(np.array(2), "two"),
            numpy_helper.from_array(np.array([0]), "zero"),
        ],
    )


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Device, Server]]:
    device = Device(tmp_path_factory.mktemp("probes"))
    try:
        device.publish("flowers", "1.0.0", flower_model())
        device.publish("fixed", "1.0.0", flower_model(batch=8))
        device.publish("columns", "1.0.0", columns_model())
        device.publish("image", "1.0.0", image_model())
        device.publish("boxes", "1.0.0", boxes_model())
        device.start()
        yield device, Server(device.socket_path)
    finally:
        device.stop()


@pytest.fixture
def server(serving: tuple[Device, Server]) -> Server:
    return serving[1]


def save(path: Path, settings: dict[str, Any], **arrays: Any) -> str:
    """Write a probe set as ``numpy.savez`` does; inputs are arrays whose name begins with ``input_``."""
    named = {
        f"input:{name[len('input_') :]}" if name.startswith("input_") else name: array for name, array in arrays.items()
    }
    np.savez_compressed(path / "probe.npz", probe=np.array(json.dumps(settings)), **named)
    return str(path / "probe.npz")


def as_json(path: Path, output: str, labels: Any, **settings: Any) -> str:
    tensor = {"name": "x", "datatype": "FP32", "shape": list(X.shape), "data": [float(value) for value in X.ravel()]}
    (path / "probe.json").write_text(json.dumps({"inputs": [tensor], "output": output, "labels": labels, **settings}))
    return str(path / "probe.json")


NAMES = np.array(CLASSES)[Y]


@pytest.mark.parametrize("model", ["flowers", "fixed"])
@pytest.mark.parametrize(
    ("output", "labels"), [("label", Y), ("name", NAMES), ("scores", Y)], ids=["INT64 label", "text", "scores"]
)
def test_a_classifier_is_measured_by_any_of_its_outputs(
    tmp_path: Path, server: Server, model: str, output: str, labels: Array
) -> None:
    assert 0.9 < ACCURACY < 1.0
    right = (SCORES.argmax(axis=1) == Y).tolist()
    for path in (
        as_json(tmp_path, output, labels.tolist()),
        save(tmp_path, {"output": output}, input_x=X, labels=labels),
    ):
        result = measure_probe(server, model, path)
        assert result["accuracy"] == pytest.approx(ACCURACY, abs=1e-6)
        assert (result["version"], result["samples"], result["correct"]) == ("1.0.0", ROWS, sum(right))
        assert unpack_flags(result["results"]["flags"], ROWS) == right
        assert result["latency_seconds"] > 0


def test_top_two_of_the_scores(tmp_path: Path, server: Server) -> None:
    found = measure_probe(server, "flowers", as_json(tmp_path, "scores", Y.tolist(), top=2))
    second = np.sort(SCORES, axis=1)[:, 1]
    assert found["accuracy"] == pytest.approx(float((SCORES[np.arange(ROWS), Y] >= second).mean()), abs=1e-6)
    assert found["accuracy"] > ACCURACY


def test_one_number_is_a_score_or_a_prediction_and_somebody_has_to_say_which(tmp_path: Path, server: Server) -> None:
    with pytest.raises(StoreError, match=r"'is_last' has one number for each sample.*declare score or regression"):
        measure_probe(server, "flowers", as_json(tmp_path, "is_last", (Y == 2).astype(int).tolist()))


def test_a_score_by_a_threshold_and_by_the_area_under_the_curve(tmp_path: Path, server: Server) -> None:
    truth, scores = Y == 2, SCORES[:, 2]
    labels = truth.astype(int).tolist()
    found = measure_probe(
        server, "flowers", as_json(tmp_path, "is_last", labels, task="score", metric="accuracy", threshold=17.5)
    )
    assert found["value"] == pytest.approx(float(((scores >= 17.5) == truth).mean()), abs=1e-6)
    found = measure_probe(server, "flowers", as_json(tmp_path, "is_last", labels, task="score"))
    differences = scores[truth][:, None] - scores[~truth][None, :]
    auc = float(((differences > 0) + 0.5 * (differences == 0)).mean())
    assert found["metric"] == "auc"
    assert 0.5 < auc < 1.0
    assert found["value"] == pytest.approx(auc, abs=1e-5)
    placements = np.array(unpack_numbers(found["results"]["numbers"], ROWS))
    assert placements[truth].mean() == pytest.approx(auc, abs=1e-3)
    assert placements[~truth].mean() == pytest.approx(auc, abs=1e-3)
    assert unpack_flags(found["results"]["positives"], ROWS) == truth.tolist()


def test_several_labels_of_one_sample(tmp_path: Path, server: Server) -> None:
    truth = SCORES >= 12.0
    truth[:15] = ~truth[:15]
    labels = truth.astype(int).tolist()
    for settings in ({"threshold": 12.0}, {"threshold": 12.0, "task": "multi_label"}):
        found = measure_probe(server, "flowers", as_json(tmp_path, "scores", labels, **settings))
        assert found["value"] == pytest.approx((ROWS - 15) / ROWS)


@pytest.mark.parametrize("metric", ["mae", "rmse", "r2", "within"])
def test_a_regression_by_each_of_its_metrics(tmp_path: Path, server: Server, metric: str) -> None:
    errors = np.random.default_rng(1).normal(0, 0.5, ROWS)
    truth = (PRICES + errors).astype(np.float64)
    settings: dict[str, Any] = {"task": "regression", "metric": metric}
    if metric == "within":
        settings["tolerance"] = {"absolute": 0.5}
    path = save(tmp_path, {"output": "price", **settings}, input_x=X, labels=truth)
    found = measure_probe(server, "flowers", path)
    expected = {
        "mae": np.abs(errors).mean(),
        "rmse": np.sqrt((errors**2).mean()),
        "r2": 1 - (errors**2).mean() / truth.var(),
        "within": (np.abs(errors) <= 0.5).mean(),
    }
    assert found["value"] == pytest.approx(float(expected[metric]), rel=1e-4)
    if metric != "within":
        numbers = np.array(unpack_numbers(found["results"]["numbers"], ROWS)) * found["results"]["scale"]
        np.testing.assert_allclose(numbers, np.abs(errors), rtol=2e-3, atol=1e-3)


def test_all_inputs_are_sent_by_name(tmp_path: Path, server: Server) -> None:
    a, b = (np.random.default_rng(number).normal(0, 1, (40, 1)).astype(np.float32) for number in (1, 2))
    flag = np.arange(40).reshape(40, 1) % 2
    truth = (a + b + flag).ravel()
    settings = {"output": "total", "task": "regression", "metric": "within", "tolerance": {"absolute": 1e-5}}
    inputs = {"input_flag": flag, "input_b": b, "input_a": a}
    assert measure_probe(server, "columns", save(tmp_path, settings, labels=truth, **inputs))["value"] == 1.0
    del inputs["input_flag"]
    with pytest.raises(ServerError, match="expected the model's inputs a, b, flag in the probe set; it has a, b"):
        measure_probe(server, "columns", save(tmp_path, settings, labels=truth, **inputs))


def test_images_go_as_binary_data_and_are_compared_with_reference_outputs(tmp_path: Path, server: Server) -> None:
    images = np.random.default_rng(3).random((5, 3, 224, 224)).astype(np.float32)
    brightest = images.mean(axis=(2, 3)).argmax(axis=1)
    path = save(tmp_path, {"output": "brightness"}, input_image=images, labels=brightest)
    assert measure_probe(server, "image", path)["accuracy"] == 1.0
    masks = images[:, :1].copy()
    masks[3] += 0.25
    for metric, expected in (("agreement", 0.8), ("distance", 0.25 / 5)):
        settings = {"output": "mask", "metric": metric, "tolerance": {"absolute": 1e-6}}
        found = measure_probe(server, "image", save(tmp_path, settings, input_image=images, expected=masks))
        assert (found["task"], found["metric"]) == ("reference", metric)
        assert found["value"] == pytest.approx(expected, rel=1e-4)


def test_as_many_boxes_as_a_model_finds_are_compared_with_as_many_as_there_are(tmp_path: Path, server: Server) -> None:
    """None, one and several; the reference is filled up with NaN to the most."""
    places = np.arange(6, dtype=np.float32)[:, None] * 10 + np.array([0, 0, 1, 1], np.float32)
    boxes = np.repeat(places[None], 5, axis=0)
    scores = np.zeros((5, 1, 6), np.float32)
    for sample, found in enumerate(([], [2], [0, 5], [1, 3, 4], [0])):
        scores[sample, 0, found] = np.linspace(0.9, 0.8, len(found))
    expected = np.full((5, 3, 4), np.nan, np.float32)
    for sample, wanted in enumerate(([], [2], [0, 5], [1, 3, 4], [])):
        expected[sample, : len(wanted)] = places[wanted]

    def measured(**settings: Any) -> dict[str, Any]:
        arrays = {"input_boxes": boxes, "input_scores": scores, "expected": expected}
        return measure_probe(server, "boxes", save(tmp_path, {"output": "found", "ragged": True, **settings}, **arrays))

    agreement = measured(tolerance={"absolute": 0.01})
    assert (agreement["metric"], agreement["samples"], agreement["correct"]) == ("agreement", 5, 4)
    # The box too many, [0, 0, 1, 1], is as far from the reference as from nothing.
    distance = measured(metric="distance")
    assert distance["value"] == pytest.approx(0.5 / 5)
    assert distance["not_finite"] == 0


def test_a_reference_that_is_ragged_says_so(tmp_path: Path, server: Server) -> None:
    inputs = {"input_x": X[:8]}
    with pytest.raises(StoreError, match="ragged: expected reference outputs"):
        measure_probe(server, "flowers", save(tmp_path, {"output": "label", "ragged": True}, labels=Y[:8], **inputs))
    settings = {"output": "scores", "ragged": True, "metric": "distance"}
    path = save(tmp_path, settings, expected=SCORES[:8].astype(np.float32), **inputs)
    assert measure_probe(server, "flowers", path)["value"] < 1e-3
    with pytest.raises(
        ServerError, match="ragged answers: expected a model that takes one sample a request; it takes 8"
    ):
        measure_probe(server, "fixed", path)


def test_what_a_model_refuses_is_a_reason_and_no_silence(tmp_path: Path, server: Server) -> None:
    path = save(tmp_path, {"output": "label"}, input_x=X[:, :3].copy(), labels=Y)
    result = probe_result(server, "flowers", path)
    assert list(result) == ["error"]
    assert "input 'x'" in result["error"]


def test_the_models_of_these_tests_are_valid() -> None:
    for content in (flower_model(), flower_model(8), columns_model(), image_model()):
        onnx.checker.check_model(onnx.load_model_from_string(content), full_check=True)
