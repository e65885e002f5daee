# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is wrong with a model or its samples is found at the desk, and nothing is published."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from publications import Case, answers, digits_model

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import EdgemlError
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.model import RefusedError

PI = {"name": "pi", "architecture": "aarch64", "memory_bytes": 1 << 30}


def answers_of(model: bytes, images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The only output of a model."""
    return np.asarray(onnxruntime.InferenceSession(model).run(None, {"image": images})[0])


def refusal(case: Case) -> str:
    """Why the publication is refused; nothing is written."""
    with pytest.raises(EdgemlError) as refused:
        case.publish()
    assert not Path(case.options["repository"]).exists()
    return str(refused.value)


def with_divisor(model: bytes, divisor: float) -> bytes:
    """The digits network with another preparation of its pixels."""
    proto = onnx.load_model_from_string(model)
    constants = [node for node in proto.graph.node if node.op_type == "Constant"]
    (constant,) = [node for node in constants if numpy_helper.to_array(node.attribute[0].t).tolist() == 16.0]
    constant.attribute[0].t.CopyFrom(numpy_helper.from_array(np.array(divisor, np.float32)))
    changed: bytes = proto.SerializeToString()
    return changed


def test_another_preparation_of_the_inputs_than_in_training(tmp_path: Path) -> None:
    case = Case(tmp_path, with_divisor(digits_model(), 255.0))
    case.samples["reference"] = answers(digits_model(), case.samples["image"])
    found = refusal(case)
    assert "conversion: output 'probabilities' is not what the source framework computes, in 36" in found
    assert "of 360 samples: sample 0: expected" in found


def test_an_exporter_that_changes_one_layer(tmp_path: Path) -> None:
    proto = onnx.load_model_from_string(digits_model())
    (weight,) = [item for item in proto.graph.initializer if item.name.endswith("3.weight")]
    values = numpy_helper.to_array(weight).copy()
    values[0, 0, 0, 0] += 0.05
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    case = Case(tmp_path, proto.SerializeToString())
    case.samples["reference"] = answers(digits_model(), case.samples["image"])
    assert "is not what the source framework computes" in refusal(case)


def test_labels_of_other_samples(tmp_path: Path) -> None:
    case = Case(tmp_path)
    case.samples["labels"] = np.random.default_rng(1).permutation(case.samples["labels"])
    assert "the labels are not those of these samples" in refusal(case)


@pytest.mark.parametrize("metric", ["mae", "rmse", "r2", "auc"])
def test_labels_that_are_the_opposite_of_what_a_model_of_numbers_says(tmp_path: Path, metric: str) -> None:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 1]) for name in ("image", "y")]
    identity = helper.make_graph([helper.make_node("Identity", ["image"], ["y"])], "identity", ends[:1], ends[1:])
    proto = helper.make_model(identity, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    case = Case(tmp_path, proto.SerializeToString())
    case.options.update(task="score" if metric == "auc" else "regression", metric=metric)
    chance = np.random.default_rng(2)
    x = chance.standard_normal(400).astype(np.float32)
    numbers = x + chance.normal(0, 0.1, 400)
    labels, opposite = (numbers > 0, numbers <= 0) if metric == "auc" else (numbers, -numbers)
    case.samples = {"image": x[:, None], "labels": opposite}
    found = refusal(case)
    same = {
        "mae": np.abs(numbers - np.median(numbers)).mean(),
        "rmse": numbers.std(),
        "r2": 0.0,
        "auc": 0.5,
    }
    assert f"labels: the source reaches {metric} " in found
    assert f"and always giving the same answer reaches {same[metric]:.4g}: the labels are not those" in found
    case.samples["labels"] = labels
    assert case.publish().changed


def test_a_holdout_of_thirty_rows(tmp_path: Path) -> None:
    case = Case(tmp_path)
    case.samples = {name: values[:30] for name, values in case.samples.items()}
    found = refusal(case)
    assert "holdout too small: a loss of up to 9.50 points is not out of the question with 30 samples" in found
    assert "it would take about 299" in found


def test_a_variant_that_fits_no_declared_device(tmp_path: Path) -> None:
    case = Case(tmp_path)
    case.options["devices"] = [{**PI, "memory_bytes": 1 << 20}, {**PI, "name": "old", "architecture": "armv7l"}]
    found = refusal(case)
    assert "onnx-fp32: fits no declared device: pi: needs" in found
    assert "old: built for aarch64, x86_64; the device is armv7l" in found
    assert "device class old" in found


def test_samples_that_are_no_numbers(tmp_path: Path) -> None:
    case = Case(tmp_path)
    case.samples["image"][[3, 77], 0, 0, 0] = np.nan
    found = refusal(case)
    assert "image: expected finite numbers; found 2 NaN or infinite values in 2 of 360 samples: 3, 77" in found


def test_a_calibration_set_that_is_not_like_the_holdout(tmp_path: Path) -> None:
    case = Case(tmp_path)
    case.options.update(variants=["fp32", "int8"], required_variants=["int8"], calibration=str(tmp_path / "c.npz"))
    # Somebody scaled the pixels to 0..1, as another model wants them.
    np.savez(case.options["calibration"], image=case.samples["image"] / 16)
    found = refusal(case)
    assert "onnx-int8: accuracy goes from 0.9833 to" in found


def test_the_share_that_a_calibration_cuts_off_is_said(tmp_path: Path) -> None:
    case = Case(tmp_path)
    case.options.update(variants=["fp32", "int8"], calibration=str(tmp_path / "c.npz"))
    np.savez(case.options["calibration"], image=case.samples["image"] / 16)
    published = case.publish()
    assert [row["published"] for row in published.table] == [True, False]
    assert any("of the holdout's values are cut off in" in note for note in published.table[1]["notes"])
    assert any(note.startswith("onnx-int8 is left out: ") for note in published.notes)
    assert [variant["name"] for variant in published.document["variants"]] == ["onnx-fp32"]


@pytest.mark.parametrize("batch", ["n", 1], ids=["any batch", "one sample at once"])
def test_layers_go_back_to_float_until_the_variant_passes(tmp_path: Path, batch: str | int) -> None:
    """Channels of very different sizes in one tensor: int8 loses the small ones, and one layer in float keeps them."""
    case = Case(tmp_path, uneven_model(batch))
    rng = np.random.default_rng(5)
    images = rng.standard_normal((500, 4), dtype=np.float32)
    images[:, 0] = np.sign(images[:, 0]) * rng.uniform(0.5, 1.5, 500)
    case.samples = {"image": images, "labels": (images[:, 0] > 0).astype(np.int64)}
    case.options["variants"] = ["fp32", "int8"]
    published = case.publish()
    row = published.table[1]
    assert row["published"], row["notes"]
    assert any(note.startswith("in float: ") for note in row["notes"]), row["notes"]
    assert any(note.startswith("with no layers in float: accuracy goes from") for note in row["notes"])


def uneven_model(batch: str | int) -> bytes:
    """Whether the first input is above 0, by way of a hidden value 5,000 times as small as its neighbour."""
    first = np.array([[1, 0, 0], [0, 5000, 0], [0, 0, 1], [0, 0, 1]], np.float32)
    second = np.array([[-1, 1], [0, 0], [0, 0]], np.float32)
    third = np.eye(2, dtype=np.float32)
    nodes = [
        helper.make_node("MatMul", ["image", "first"], ["hidden"]),
        helper.make_node("MatMul", ["hidden", "second"], ["scores"]),
        helper.make_node("MatMul", ["scores", "third"], ["probabilities"]),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, size])
        for name, size in (("image", 4), ("probabilities", 2))
    ]
    constants = [
        numpy_helper.from_array(values, name)
        for name, values in {"first": first, "second": second, "third": third}.items()
    ]
    graph = helper.make_graph(nodes, "uneven", ends[:1], ends[1:], constants)
    content: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    ).SerializeToString()
    return content


def test_a_model_newer_than_the_oldest_runtime_of_the_fleet(tmp_path: Path) -> None:
    proto = onnx.load_model_from_string(digits_model())
    proto.ir_version = 13
    case = Case(tmp_path, proto.SerializeToString())
    case.options["runtime_minimum"] = "1.22.0"
    assert "onnx-fp32: needs onnxruntime 1.24.1 (IR version 13); expected 1.22.0 or earlier" in refusal(case)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"image": np.zeros((360, 1, 8, 9), np.float32)}, r"expected the shape \[-1, 1, 8, 8\]"),
        ({"other": np.zeros((360, 2), np.float32)}, "expected the model's inputs image; found image, other"),
        ({"labels": np.zeros(359, np.int64)}, r"expected as many rows in each array, .*labels \[359\]"),
        ({"labels": np.zeros(360, np.int64)}, "labels: expected several; found 0 for each sample"),
        ({"labels": np.eye(10, dtype=int)[np.arange(360) % 10]}, "exactly one of the labels"),
        ({"image": np.array(["a"] * 360)}, "image: expected FP32, as the model has"),
        ({"image": np.array([None] * 360)}, "pickle"),
        ({"reference:scores": np.zeros((360, 10), np.float32)}, "reference: expected outputs of the model"),
        ({"reference": np.zeros((360, 11), np.float32)}, r"expected the shape \[360, 11\]; found \[360, 10\]"),
        ({"labels": np.full(360, 11)}, "expected places from 0 to 9"),
        ({"probe": np.array("[]")}, "probe: expected a JSON object"),
        ({"probe": np.array(json.dumps({"output": "scores"}))}, "output: expected one of probabilities"),
        ({"probe": np.array(json.dumps({"task": "scores"}))}, "samples: output 'probabilities': task: expected one of"),
    ],
)
def test_samples_that_do_not_fit(tmp_path: Path, change: dict[str, Any], expected: str) -> None:
    case = Case(tmp_path)
    case.samples.update(change)
    with pytest.raises(EdgemlError, match=expected):
        case.publish()


def test_a_source_that_is_none(tmp_path: Path) -> None:
    assert "not an ONNX model that can be published" in refusal(Case(tmp_path, b"no model"))
    assert "expected a model; found an empty file" in refusal(Case(tmp_path, b""))
    case = Case(tmp_path)
    case.options["source"] = str(tmp_path / "model.pkl")
    assert "expected a source .onnx" in refusal(case)


@pytest.mark.parametrize("batch", [1, 8])
def test_outputs_without_an_axis_for_the_samples(tmp_path: Path, batch: int) -> None:
    """Of each sample the same number of rows; or of eight at once as many as are found."""
    ends = [
        helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3]),
        helper.make_tensor_value_info("boxes", TensorProto.INT64, ["boxes", 2]),
    ]
    nodes = [
        helper.make_node("GreaterOrEqual" if batch == 1 else "Greater", ["image", "least"], ["mask"]),
        helper.make_node("NonZero", ["mask"], ["places"]),
        helper.make_node("Transpose", ["places"], ["boxes"]),
    ]
    least = numpy_helper.from_array(np.array(-100.0 if batch == 1 else 0.0, np.float32), "least")
    graph = helper.make_graph(nodes, "boxes", ends[:1], ends[1:], [least])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    case = Case(tmp_path, proto.SerializeToString())
    case.samples = {"image": np.random.default_rng(3).standard_normal((40, 3)).astype(np.float32)}
    found = refusal(case)
    assert found.startswith("output 'boxes' of the source: expected 40 rows, one for each sample; found ")
    assert "such as of boxes, for one sample at once" in found


@pytest.mark.parametrize("seed", [{}, {"seed": 1.0}], ids=["no seed", "a seed"])
def test_a_model_that_draws_random_numbers(tmp_path: Path, seed: dict[str, Any]) -> None:
    """Such as one exported in training mode, or a variational autoencoder. A seed is that of the first run only."""
    proto = onnx.load_model_from_string(digits_model())
    for node in proto.graph.node:
        node.output[:] = [{"probabilities": "exact"}.get(name, name) for name in node.output]
    proto.graph.node.extend(
        [
            helper.make_node("RandomNormalLike", ["exact"], ["noise"], scale=0.01, **seed),
            helper.make_node("Add", ["exact", "noise"], ["probabilities"]),
        ]
    )
    found = refusal(Case(tmp_path, proto.SerializeToString()))
    assert found.startswith(
        "output 'probabilities' of the source: expected the same answers to the same samples; found some that differ by"
    )
    assert "because the model draws random numbers (RandomNormalLike)" in found


def test_random_numbers_that_no_answer_depends_on_are_no_reason(tmp_path: Path) -> None:
    proto = onnx.load_model_from_string(digits_model())
    proto.graph.node.append(helper.make_node("RandomNormal", [], ["noise"], shape=[1]))
    assert Case(tmp_path, proto.SerializeToString()).publish().changed


def test_an_accuracy_below_what_is_asked_for(tmp_path: Path) -> None:
    case = Case(tmp_path, digits_model("1.2.0"))
    case.options["accuracy_min"] = 0.9
    assert "accuracy_min: expected accuracy 0.9; found 0.338889" in refusal(case)


def test_int8_of_what_has_no_layers_with_weights(tmp_path: Path) -> None:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in ("image", "probabilities")]
    graph = helper.make_graph(
        [helper.make_node("Softmax", ["image"], ["probabilities"])], "softmax", ends[:1], ends[1:]
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    case = Case(tmp_path, proto.SerializeToString())
    images = np.random.default_rng(2).standard_normal((400, 3)).astype(np.float32)
    case.samples = {"image": images, "labels": images.argmax(axis=1)}
    case.options["variants"] = ["fp32", "fp16", "int8", "int8-dynamic"]
    published = case.publish()
    assert [row["published"] for row in published.table] == [True, False, False, False]
    assert [row["verdict"] for row in published.table[1:]] == ["not made"] * 3
    case.options.update(version="2", required_variants=["int8"])
    with pytest.raises(RefusedError, match="int8: the model has no layer"):
        case.publish()


@pytest.mark.parametrize(("layers", "made"), [(1, True), (2, False)], ids=["a bias of its own", "a shared bias"])
def test_int8_of_a_bias_with_an_axis_more(tmp_path: Path, layers: int, made: bool) -> None:
    """As scikit-learn's converter writes it, and the quantiser fails with it. What cannot be made is left out."""
    chance = np.random.default_rng(4)
    names = ["image", *(f"hidden{number}" for number in range(1, layers)), "probabilities"]
    nodes, weights = [], [numpy_helper.from_array(chance.standard_normal((1, 4)).astype(np.float32), "bias")]
    for number, (before, after) in enumerate(itertools.pairwise(names)):
        matrix = np.eye(4) + 0.1 * chance.standard_normal((4, 4))
        weights.append(numpy_helper.from_array(matrix.astype(np.float32), f"w{number}"))
        nodes += [
            helper.make_node("MatMul", [before, f"w{number}"], [f"product{number}"]),
            helper.make_node("Add", [f"product{number}", "bias"], [after]),
        ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in ("image", "probabilities")]
    graph = helper.make_graph(nodes, "layers", ends[:1], ends[1:], weights)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    content = proto.SerializeToString()
    case = Case(tmp_path, content)
    images = chance.standard_normal((600, 4)).astype(np.float32)
    case.samples = {"image": images, "labels": answers_of(content, images).argmax(axis=1)}
    case.options.update(variants=["fp32", "int8"], accuracy_drop_max=0.2)
    published = case.publish()
    assert [row["published"] for row in published.table] == [True, made], published.notes
    assert made or any(
        "onnx-int8 is left out: ONNX Runtime's quantiser fails with this model: The truth value of an array" in note
        for note in published.notes
    )
