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

from ansible_collections.edgeml.fleet.plugins.module_utils._release.probe_set import Metric, ProbeSetError, Task
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


@pytest.mark.parametrize("names", [["label", "scores"], ["scores", "label"]])
def test_of_scores_that_are_highest_elsewhere_the_class_that_the_model_names_is_asked(
    tmp_path: Path, names: list[str]
) -> None:
    """Such as the distances of a k-means, the votes of one against one, and classes that are numbered from 1."""
    outputs: dict[str, np.ndarray[Any, Any]] = {"label": CLASSES, "scores": 1 - SCORES}
    samples = Samples("holdout.npz", {"x": X}, CLASSES)
    probe = make_probe(samples, {name: outputs[name] for name in names}, str(tmp_path), output=None, settings={})
    assert (probe.probe_set.output, probe.task) == ("label", Task.LABELS)
    assert probe.scores(outputs)[1] == 1.0


def test_the_area_under_the_curve_is_of_scores_and_not_of_decisions(tmp_path: Path) -> None:
    """A classifier of two classes has both scores, and what it decides, as one number."""
    yes = np.array([0.1, 0.2, 0.3, 0.4, 0.35, 0.8], np.float32)
    labels = np.array([0, 0, 0, 0, 1, 1])
    outputs: dict[str, np.ndarray[Any, Any]] = {
        "label": (yes > 0.5).astype(np.int64),
        "probabilities": np.stack([1 - yes, yes], axis=1),
    }
    samples = Samples("holdout.npz", {"x": X}, labels)
    probe = make_probe(samples, outputs, str(tmp_path), output=None, settings={"task": "score"})
    assert (probe.probe_set.output, probe.metric) == ("probabilities", Metric.AUC)
    # Of the eight pairs of a yes and a no, one is the wrong way round.
    assert probe.scores(outputs)[1] == 0.875
    logits = np.log(np.stack([1 - yes, yes], axis=1)) + X
    assert probe.scores({"probabilities": logits})[1] == 0.875
    with pytest.raises(ProbeSetError, match="expected scores in 'label'; found no more than 2 different values"):
        make_probe(samples, outputs, str(tmp_path), output="label", settings={"task": "score"})
    with pytest.raises(ProbeSetError, match="task score: expected one value for each sample in 'probabilities'; found"):
        make_probe(
            samples, outputs, str(tmp_path), output="probabilities", settings={"task": "score", "metric": "accuracy"}
        )


def test_a_label_is_no_place_among_the_scores_of_several_answers(tmp_path: Path) -> None:
    """Tokens have scores of tags each, of which a single label is of none."""
    tags = np.zeros((6, 4, 3), np.float32)
    samples = Samples("holdout.npz", {"x": X}, CLASSES)
    with pytest.raises(ProbeSetError, match="has its 12 values of a sample along 2 axes: export the scores of one"):
        make_probe(samples, {"y": tags}, str(tmp_path), output=None, settings={})
    place = make_probe(samples, {"y": tags}, str(tmp_path), output=None, settings={"task": "class_scores"})
    assert place.task is Task.CLASS_SCORES
    assert make_probe(samples, {"y": SCORES[:, None, :, None]}, str(tmp_path), output=None, settings={}).metric


Y = np.array([0.5, 1.5, 2.5, 3.5, 4.5, 11.5])


@pytest.mark.parametrize(
    ("labels", "answers", "settings", "same"),
    [
        (np.array([0, 1, 1, 1, 2, 2]), SCORES, {}, 3 / 6),
        (np.array([0, 1, 1, 1, 2, 2]), SCORES, {"top": 2}, 5 / 6),
        (np.array(["a", "b", "b", "c", "c", "c"]), np.array(list("abcabc")), {}, 3 / 6),
        (np.array([0, 0, 0, 0, 1, 1]), X, {"task": "score"}, 0.5),
        (np.array([0, 0, 0, 0, 1, 1]), X, {"task": "score", "metric": "accuracy"}, 4 / 6),
        (np.eye(2, dtype=int)[[0, 0, 0, 1, 1, 1]] | [[0, 1]], SCORES[:, :2], {}, 3 / 6),
        (np.ones((6, 2), int), SCORES[:, :2], {}, 1.0),
        # The middle of the labels is 3, and their mean 4.
        (Y, X, {}, 15 / 6),
        (Y, X, {"metric": "rmse"}, float(Y.std())),
        (Y, X, {"metric": "r2"}, 0.0),
        # In metres, of what is measured in nanometres.
        (Y * 1e-9, X, {}, 15e-9 / 6),
        (Y, X, {"metric": "within", "tolerance": {"absolute": 1, "relative": 0}}, 2 / 6),
        (Y, X, {"metric": "within", "tolerance": {"absolute": 100, "relative": 0}}, 1.0),
        (None, X, {}, 0.0),
        (None, X * 0, {}, 1.0),
        (None, X, {"tolerance": {"absolute": 1.5, "relative": 0}}, 4 / 6),
        (Y[:, None], X, {"task": "reference", "metric": "distance"}, 15 / 6),
    ],
)
def test_what_always_giving_the_same_answer_reaches(
    tmp_path: Path, labels: Any, answers: Any, settings: dict[str, Any], same: float
) -> None:
    samples = Samples("holdout.npz", {"x": X}, labels, settings=settings)
    probe = make_probe(samples, {"y": answers}, str(tmp_path), output=None, settings={})
    assert probe.of_same_answer() == pytest.approx(same, rel=1e-6)


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
