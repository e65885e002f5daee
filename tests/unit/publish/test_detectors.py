# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Detectors that suppress overlapping boxes themselves are published: each sample has as many boxes as are found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from detectors import detector, detector_holdout
from onnx import TensorProto, helper, numpy_helper
from onnx_models import model_of
from publications import Case

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import EdgemlError
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.publication import Published

TRUTH = {"task": "reference", "metric": "distance", "output": "boxes", "ragged": True, "unordered": True}


def case_of(directory: Path, model: bytes, settings: dict[str, Any] | None = None) -> Case:
    """A publication of a detector with true boxes; without ``settings`` there are none."""
    case = Case(directory, model)
    features, truth = detector_holdout()
    case.samples = {"features": features}
    if settings:
        case.samples.update(labels=truth, probe=json.dumps(settings))
    case.options.update(model="finder", version="1.0.0")
    return case


def content_of(case: Case, published: Published, name: str) -> Any:
    """The JSON of a file of the release."""
    entry: Any = published.document[name]
    return json.loads((Path(case.options["repository"]) / "blobs" / "sha256" / entry["sha256"]).read_text())


def run_alone(model: bytes, features: Any) -> list[dict[str, Any]]:
    """What the runtime answers to each sample."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    found = [session.run(names, {"features": features[row : row + 1]}) for row in range(len(features))]
    return [dict(zip(names, outputs, strict=True)) for outputs in found]


def test_true_boxes_judge_a_detector_and_its_variants(tmp_path: Path) -> None:
    case = case_of(tmp_path, detector(0.25), TRUTH)
    case.options["variants"] = ["fp32", "fp16"]
    published = case.publish()
    features, truth = detector_holdout()
    alone = run_alone(case.model, features)

    errors = []
    for found, wanted in zip(alone, truth, strict=True):
        right = wanted[~np.isnan(wanted).any(axis=1)]
        assert len(right) == len(found["boxes"])
        # Objects are so far from each other that the nearest box is the one.
        nearest = [np.abs(found["boxes"] - box).mean(axis=1).min() for box in right]
        errors.append(np.mean(nearest) if len(right) else 0.0)
    assert published.facts["source_metric"] == pytest.approx(np.mean(errors), rel=1e-3)
    assert [row["published"] for row in published.table] == [True, True], published.notes
    assert not any("no labels" in note for note in published.notes)

    golden = content_of(case, published, "golden")
    outputs = {item["name"]: item for item in golden["outputs"]}
    (image,) = golden["inputs"]
    (row,) = (row for row in range(len(features)) if np.allclose(features[row].reshape(-1), image["data"]))
    # An answer without a box would prove nothing.
    assert len(alone[row]["boxes"]) == max(len(found["boxes"]) for found in alone)
    for name, values in alone[row].items():
        assert outputs[name]["shape"] == list(values.shape)
        np.testing.assert_allclose(outputs[name]["data"], values.reshape(-1), rtol=1e-6)
    assert outputs["classes"]["datatype"] == "INT64"
    assert {name for variant in published.document["variants"] for name in variant["tolerances"]} == {"boxes", "scores"}

    series = {item["name"]: item for item in content_of(case, published, "reference")["series"]}
    boxes = sum(len(found["boxes"]) for found in alone)
    # A live request has a row for each box, too.
    assert {name: sum(item["counts"]) for name, item in series.items() if item["tensor"] != "features"} == {
        **{f"boxes_{place}": boxes for place in range(4)},
        "scores": boxes,
        "classes": boxes,
    }


@pytest.mark.parametrize("output", ["boxes", "classes"])
def test_without_labels_answers_are_compared_with_the_sources_own(tmp_path: Path, output: str) -> None:
    case = case_of(tmp_path, detector())
    with pytest.raises(EdgemlError, match="any output could be compared: boxes, scores, classes; name one"):
        case.publish()
    case.options["output"] = output
    published = case.publish()
    probe = content_of(case, published, "probe")
    assert (probe["ragged"], published.facts["source_metric"]) == (True, 1.0)
    alone = run_alone(case.model, detector_holdout()[0])
    given = np.array([np.nan if value is None else value for value in probe["expected"]["data"]])
    np.testing.assert_allclose(
        given[~np.isnan(given)], np.concatenate([found[output].reshape(-1) for found in alone]), rtol=1e-6
    )


def test_what_the_framework_found_proves_the_conversion(tmp_path: Path) -> None:
    alone = run_alone(detector(), detector_holdout()[0])
    reference = np.full((len(alone), 7, 4), np.nan)
    for row, found in enumerate(alone):
        reference[row, : len(found["boxes"])] = found["boxes"]
    case = case_of(tmp_path, detector(), TRUTH)
    case.samples["reference:boxes"] = reference
    assert case.publish().changed

    case.options["version"] = "1.1.0"
    # Zeros of a row that was never filled are a box.
    case.samples["reference:boxes"] = np.nan_to_num(reference)
    with pytest.raises(EdgemlError, match=r"output 'boxes' is not what .* sample 0: expected 28 values, found \d+"):
        case.publish()
    case.samples["reference:boxes"] = reference + 0.5
    with pytest.raises(EdgemlError, match="output 'boxes' is not what the source framework computes, in 2"):
        case.publish()


def test_true_boxes_in_another_unit_are_refused(tmp_path: Path) -> None:
    case = case_of(tmp_path, detector(), TRUTH)
    case.samples["labels"] = case.samples["labels"] / 100
    with pytest.raises(EdgemlError, match=r"and finding nothing in any of them reaches .*: the labels are not those"):
        case.publish()


def test_true_boxes_that_are_not_said_to_be_ragged(tmp_path: Path) -> None:
    case = case_of(tmp_path, detector(), {**TRUTH, "ragged": False, "unordered": False})
    with pytest.raises(EdgemlError, match=r"labels: expected finite numbers; .*\. Of boxes, .* \"ragged\": true"):
        case.publish()


def test_an_axis_for_the_samples_before_that_of_the_boxes(tmp_path: Path) -> None:
    """As exporters of whole detectors give it: [1, n, 4]. Whole numbers stay what they are."""
    zero = numpy_helper.from_array(np.zeros((), np.float32), "zero")
    axis = numpy_helper.from_array(np.array([0]), "axis")
    content = model_of(
        [
            helper.make_node("Greater", ["features", "zero"], ["mask"]),
            helper.make_node("NonZero", ["mask"], ["by_axis"]),
            helper.make_node("Transpose", ["by_axis"], ["rows"], perm=[1, 0]),
            helper.make_node("Unsqueeze", ["rows", "axis"], ["places"]),
        ],
        inputs=[("features", TensorProto.FLOAT, [1, 3])],
        outputs=[("places", TensorProto.INT64, [1, "n", 2])],
        constants=[zero, axis],
    )
    case = Case(tmp_path, content)
    rows = np.random.default_rng(3).standard_normal((400, 3)).astype(np.float32)
    case.samples = {"features": rows}
    published = case.publish()
    (places,) = content_of(case, published, "golden")["outputs"]
    assert (places["datatype"], places["shape"]) == ("INT64", [1, 3, 2])
    assert places["data"] == [0, 0, 0, 1, 0, 2]
    assert published.table[0]["metric"] == 1.0
