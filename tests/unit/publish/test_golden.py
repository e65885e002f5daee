# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What goes into a golden file and a probe set, and which samples and outputs are chosen."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ansible_collections.edgeml.fleet.plugins.module_utils._release.probe_set import ProbeSetError, Task
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.golden import (
    Spread,
    golden_file,
    golden_rows,
    make_probe,
    spreads,
    tensor,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.samples import Samples

X = np.arange(6, dtype=np.float32).reshape(6, 1)
SCORES = np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1, 2]]
CLASSES = np.array([0, 1, 2, 0, 1, 2])


@pytest.mark.parametrize(
    ("values", "datatype", "data"),
    [
        (np.array([[1, -2]], np.int8), "INT8", [1, -2]),
        (np.array([True, False]), "BOOL", [True, False]),
        (np.array(["a", "é"]), "BYTES", ["a", "é"]),
        (np.array([0.1, 2.0, np.nan], np.float32), "FP32", [0.100000001, 2, None]),
        (np.array([0.1, 1e16]), "FP64", [0.1, 1e16]),
        (np.array([0.1], np.float16), "FP16", [0.099976]),
    ],
)
def test_an_array_as_a_tensor(values: Any, datatype: str, data: list[Any]) -> None:
    found = tensor("x", values)
    assert found == {"name": "x", "datatype": datatype, "shape": list(values.shape), "data": data}
    assert [type(item) for item in found["data"]] == [type(item) for item in data]


def test_the_loudest_and_the_faintest_samples_are_chosen_among_those_that_are_allowed() -> None:
    inputs = {
        "text": np.array(["a"] * 6),
        "nothing": np.zeros((6, 0), np.float32),
        "x": np.array([[9], [3], [5], [-1], [4], [np.nan]], np.float32),
    }
    assert golden_rows(inputs, [1, 2, 3, 4], 2) == [2, 3]
    assert golden_rows(inputs, [1, 2, 3, 4], 8) == [1, 2, 3, 4]
    assert golden_rows(inputs, [], 8) == []


def test_a_golden_file_has_the_rows_and_the_tolerance() -> None:
    content = golden_file({"x": X}, {"y": SCORES}, [1, 5], absolute=0.5, relative=0.25)
    assert content.endswith(b"}\n")
    assert json.loads(content) == {
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [2, 1], "data": [1, 5]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [2, 3], "data": [0, 1, 0, 0, 0, 1]}],
        "tolerance": {"absolute": 0.5, "relative": 0.25},
    }


def test_of_several_outputs_the_labels_are_those_of_the_scores(tmp_path: Path) -> None:
    samples = Samples("holdout.npz", {"x": X}, CLASSES)
    probe = make_probe(samples, {"label": CLASSES, "scores": SCORES}, str(tmp_path), output=None, settings={})
    assert (probe.probe_set.output, probe.task) == ("scores", Task.CLASS_SCORES)
    result, value = probe.scores({"scores": SCORES[::-1], "label": CLASSES})
    assert (result.samples, value) == (6, round(2 / 6, 6))
    named = make_probe(samples, {"label": CLASSES, "scores": SCORES}, str(tmp_path), output="label", settings={})
    assert named.probe_set.output == "label"
    assert named.scores({"label": CLASSES})[1] == 1.0


def test_of_several_outputs_lists_of_labels_are_those_of_the_scores(tmp_path: Path) -> None:
    """As scikit-learn's converter exports a classifier with several labels: those that apply, and their scores."""
    labels = np.array([[1, 0], [1, 1], [0, 0], [0, 1], [1, 1], [0, 0]])
    outputs = {"label": labels == 1, "number": labels, "probabilities": labels.astype(np.float32)}
    for settings in ({}, {"task": "multi_label"}):
        probe = make_probe(
            Samples("holdout.npz", {"x": X}, labels), outputs, str(tmp_path), output=None, settings=settings
        )
        assert (probe.probe_set.output, probe.task) == ("probabilities", Task.MULTI_LABEL)


@pytest.mark.parametrize(
    "labels",
    [CLASSES.astype(np.float64), CLASSES.astype(np.float32)[:, None], CLASSES == 1],
    ids=["floats", "a column", "booleans"],
)
def test_classes_may_be_written_as_floats_or_booleans(tmp_path: Path, labels: Any) -> None:
    scores = SCORES if labels.dtype.kind == "f" else SCORES[:, :2]
    probe = make_probe(Samples("holdout.npz", {"x": X}, labels), {"y": scores}, str(tmp_path), output=None, settings={})
    assert probe.task is Task.CLASS_SCORES
    assert probe.probe_set.labels == tuple(labels.reshape(-1).astype(int).tolist())
    assert all(type(label) is int for label in probe.probe_set.labels)
    other = Samples("holdout.npz", {"x": X}, CLASSES == 1 if labels.dtype.kind == "b" else labels + 0.5)
    with pytest.raises(ProbeSetError, match="whole numbers from 0; found "):
        make_probe(other, {"y": SCORES}, str(tmp_path), output=None, settings={})


@pytest.mark.parametrize("labels", [X[:, 0] + 0.5, np.hstack([X, X]) + 0.5], ids=["one value", "several values"])
def test_labels_with_fractions_are_those_of_a_regression_and_the_file_says_so(tmp_path: Path, labels: Any) -> None:
    outputs = {"y": labels.reshape(len(X), -1).astype(np.float32)}
    probe = make_probe(Samples("holdout.npz", {"x": X}, labels), outputs, str(tmp_path), output=None, settings={})
    assert (probe.task, json.loads(probe.content)["task"]) == (Task.REGRESSION, "regression")
    assert probe.scores(outputs)[1] == 0


@pytest.mark.parametrize(
    ("outputs", "output", "expected"),
    [
        ({"a": SCORES, "b": SCORES}, None, "output: the labels fit several: a, b; name one"),
        ({"a": SCORES}, "c", "output: expected one of a; found 'c'"),
        ({"a": SCORES[:, :2]}, None, "output 'a': "),
    ],
)
def test_labels_that_no_output_or_more_than_one_fits(
    tmp_path: Path, outputs: dict[str, Any], output: str | None, expected: str
) -> None:
    with pytest.raises(ProbeSetError) as refused:
        make_probe(Samples("holdout.npz", {"x": X}, CLASSES), outputs, str(tmp_path), output=output, settings={})
    assert str(refused.value).startswith(expected)


def test_without_labels_an_output_is_named_where_there_are_several(tmp_path: Path) -> None:
    """Such as the cluster and the distances of a k-means: nothing says which of them clients go by."""
    unlabelled = Samples("holdout.npz", {"x": X}, None)
    outputs = {"label": CLASSES, "scores": CLASSES.astype(np.float32)}
    message = "output: the samples have no labels, and any output could be compared: label, scores; name one"
    with pytest.raises(ProbeSetError, match=re.escape(message)):
        make_probe(unlabelled, outputs, str(tmp_path), output=None, settings={})
    named = make_probe(unlabelled, outputs, str(tmp_path), output="label", settings={})
    assert named.probe_set.output == "label"
    assert named.scores({"label": CLASSES})[1] == 1.0


def test_how_far_outputs_are_off() -> None:
    wanted = {"y": np.array([1.0, -4.0, np.nan]), "text": np.array(["a", "b", "c"])}
    found = {"y": np.array([1.5, -4.0, 7.0]), "text": np.array(["a", "b", "z"])}
    assert spreads(found, wanted) == {"y": Spread(0.5, 4.0)}
    assert spreads(found, wanted, [1]) == {"y": Spread(0.0, 4.0)}
    assert spreads(found, wanted, []) == {"y": Spread(0.0, 0.0)}
