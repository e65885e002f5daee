# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The file of a probe set: JSON and ``.npz`` say the same, the task follows from it, and what is wrong is said."""

from __future__ import annotations

import contextlib
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from documents import Place, places, replaced
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.edgeml.fleet.plugins.module_utils._common.packed import FLAGS_MAX, NUMBERS_MAX
from ansible_collections.edgeml.fleet.plugins.module_utils._release import probe_set_file
from ansible_collections.edgeml.fleet.plugins.module_utils._release.arrays import ListArray, all_values
from ansible_collections.edgeml.fleet.plugins.module_utils._release.datatypes import NUMBERS, TEXT
from ansible_collections.edgeml.fleet.plugins.module_utils._release.probe_set import (
    METRICS,
    Metric,
    Output,
    ProbeSet,
    ProbeSetError,
    Task,
)
from ansible_collections.edgeml.fleet.plugins.module_utils._release.probe_set_file import read_outputs, read_probe_set

X = {"name": "x", "datatype": "FP32", "shape": [2, 3], "data": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]}
EXPECTED = {"datatype": "FP32", "shape": [2, 2], "data": [0.5, 1.5, 2.5, None]}
GOOD: dict[str, Any] = {"inputs": [X], "output": "y", "labels": [0, 1]}
REFERENCE: dict[str, Any] = {"inputs": [X], "output": "y", "expected": EXPECTED, "tolerance": {"absolute": 0.5}}
GOLDEN: dict[str, Any] = {
    "inputs": [X],
    "outputs": [
        {"name": "scores", "datatype": "FP32", "shape": [2, 2], "data": [[0.25, 0.75], [0.5, 0.5]]},
        {"name": "word", "datatype": "BYTES", "shape": [2], "data": ["a", "b"]},
        {"name": "all", "datatype": "INT64", "shape": [], "data": [4]},
    ],
    "tolerance": {"absolute": 0.1, "relative": 0},
}
UNORDERED = (
    "unordered: expected ragged beside it, and a reference with a sample, a row and its values as axes, such as "
    "[samples, most boxes, 4]"
)
FIELDS = "task, metric, inputs, output, labels, expected, ragged, unordered, top, threshold, tolerance"
TASKS = ", ".join(task.value for task in Task)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
BEYOND_FLOATS = 10**400


def written(path: Path, document: Any) -> str:
    """A probe set of JSON."""
    path.write_text(json.dumps(document))
    return str(path)


def archived(path: Path, settings: Any, **arrays: Any) -> str:
    """A probe set of arrays. The names of inputs come as ``input_x``."""
    named = {name.replace("input_", "input:"): array for name, array in arrays.items()}
    np.savez_compressed(path, probe=np.array(json.dumps(settings)), **named)
    return str(path)


def made(labels: tuple[Any, ...] = (0, 1), label_values: int = 1, **changes: Any) -> ProbeSet:
    """A probe set with these labels."""
    values: dict[str, Any] = {"samples": len(labels) // label_values, **changes}
    return ProbeSet(
        (ListArray("x", "FP32", (2, 1), [0.0, 1.0]),), "y", labels=labels, label_values=label_values, **values
    )


def reference(**changes: Any) -> ProbeSet:
    return made((), samples=2, expected=ListArray("expected", "FP32", (2, 1), [0.0, 1.0]), **changes)


def refused(path: str) -> str:
    """Why the file is refused, without the beginning that names it."""
    with pytest.raises(ProbeSetError) as caught:
        read_probe_set(path)
    start = f"{path}: not a probe set: "
    assert str(caught.value).startswith(start)
    return str(caught.value)[len(start) :]


# ---- what a good file gives ----


def test_a_short_probe_set_has_the_usual_settings(tmp_path: Path) -> None:
    probe = read_probe_set(written(tmp_path / "probe.json", GOOD))
    (x,) = probe.inputs
    assert (x.name, x.datatype, x.shape, all_values(x)) == ("x", "FP32", (2, 3), X["data"])
    assert (probe.output, probe.samples, probe.labels, probe.label_values) == ("y", 2, (0, 1), 1)
    assert (probe.expected, probe.ragged, probe.declared_task, probe.declared_metric) == (None, False, None, None)
    assert (probe.top, probe.threshold, probe.absolute, probe.relative) == (1, 0.5, 0.0, 0.0)


def test_every_setting_is_read(tmp_path: Path) -> None:
    settings = {"task": "regression", "metric": "within", "top": 3, "threshold": 2}
    tolerance = {"absolute": 0.01, "relative": 1}
    probe = read_probe_set(written(tmp_path / "probe.json", {**GOOD, **settings, "tolerance": tolerance}))
    assert (probe.declared_task, probe.declared_metric) == (Task.REGRESSION, Metric.WITHIN)
    assert (probe.top, probe.threshold, probe.absolute, probe.relative) == (3, 2.0, 0.01, 1.0)


def test_null_is_as_good_as_leaving_a_setting_out(tmp_path: Path) -> None:
    nulls = dict.fromkeys(("task", "metric", "expected", "tolerance"))
    probe = read_probe_set(written(tmp_path / "probe.json", {**GOOD, **nulls}))
    assert (probe.declared_task, probe.declared_metric, probe.expected, probe.absolute) == (None, None, None, 0.0)


def test_data_may_be_nested_as_its_shape_is(tmp_path: Path) -> None:
    tensor = {"name": "x", "datatype": "INT8", "shape": [2, 2, 1], "data": [[[1], [2]], [[3], [4]]]}
    (x,) = read_probe_set(written(tmp_path / "probe.json", {**GOOD, "inputs": [tensor]})).inputs
    assert all_values(x) == [1, 2, 3, 4]


def test_a_sample_may_have_several_labels(tmp_path: Path) -> None:
    probe = read_probe_set(written(tmp_path / "probe.json", {**GOOD, "labels": [[1, 0, 0], [0, 1, 1]]}))
    assert (probe.samples, probe.label_values, probe.labels) == (2, 3, (1, 0, 0, 0, 1, 1))


def test_a_reference_needs_no_name_and_may_have_gaps(tmp_path: Path) -> None:
    probe = read_probe_set(written(tmp_path / "probe.json", {**REFERENCE, "ragged": True}))
    assert probe.expected is not None
    assert (probe.expected.name, probe.expected.shape, all_values(probe.expected)) == (
        "expected",
        (2, 2),
        [0.5, 1.5, 2.5, None],
    )
    assert (probe.samples, probe.labels, probe.ragged, probe.absolute) == (2, (), True, 0.5)


def test_a_distance_needs_no_tolerance(tmp_path: Path) -> None:
    document = {**REFERENCE, "metric": "distance", "tolerance": None}
    assert read_probe_set(written(tmp_path / "probe.json", document)).declared_metric is Metric.DISTANCE


@pytest.mark.parametrize("labels", [[1, 0], [[1, 0], [0, 1]], ["a", "b"], [0.5, -1.5], [True, False]])
def test_arrays_say_the_same_as_json(tmp_path: Path, labels: list[Any]) -> None:
    settings = {"output": "y", "task": "labels", "top": 2}
    x = np.array(X["data"], dtype=np.float32).reshape(2, 3)
    by_json = read_probe_set(written(tmp_path / "probe.json", {**settings, "inputs": [X], "labels": labels}))
    by_npz = read_probe_set(archived(tmp_path / "probe.npz", settings, input_x=x, labels=np.array(labels)))
    for probe in (by_json, by_npz):
        assert [(item.name, item.datatype, item.shape, all_values(item)) for item in probe.inputs] == [
            ("x", "FP32", (2, 3), X["data"])
        ]
    for field in ("output", "samples", "labels", "label_values", "declared_task", "top"):
        assert getattr(by_npz, field) == getattr(by_json, field)


def test_a_reference_may_be_an_array(tmp_path: Path) -> None:
    x, y = np.zeros((3, 2), dtype=np.uint8), np.array([[1.0], [2.0], [math.nan]])
    settings = {"output": "y", "ragged": True, "tolerance": {}}
    probe = read_probe_set(archived(tmp_path / "probe.npz", settings, input_x=x, expected=y))
    assert (probe.samples, probe.labels, probe.label_values, probe.ragged) == (3, (), 1, True)
    assert probe.expected is not None
    assert all_values(probe.expected) == [1.0, 2.0, pytest.approx(math.nan, nan_ok=True)]


# ---- refusals: the file ----


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "Expecting value"),
        (b"P", "Expecting value"),
        (b"\xff\xfe{}", "'utf-8' codec can't decode"),
        (b"PK\3\4", "expected a .npz file; File is not a zip file"),
        (b"[" * 100_000, "RecursionError"),
        (b"[1]", "expected an object; found list"),
        (b"null", "expected an object; found NoneType"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "probe").write_bytes(content)
    assert refused(str(tmp_path / "probe")).startswith(message)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert refused(str(tmp_path / "probe.json")).startswith("FileNotFoundError")


def test_json_has_a_greatest_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "probe.json", GOOD)
    size = Path(path).stat().st_size
    monkeypatch.setattr(probe_set_file, "JSON_BYTES_MAX", size)
    assert read_probe_set(path).samples == 2
    monkeypatch.setattr(probe_set_file, "JSON_BYTES_MAX", size - 1)
    assert refused(path) == f"expected at most {size - 1} bytes of JSON. Use .npz for more"


@given(place=st.sampled_from(places(GOOD) + places(REFERENCE)), value=JSON | st.just(BEYOND_FLOATS))
def test_whatever_json_says_is_a_probe_set_or_is_refused(
    tmp_path_factory: pytest.TempPathFactory, place: Place, value: Any
) -> None:
    path = tmp_path_factory.getbasetemp() / "any_probe.json"
    for document in (GOOD, REFERENCE):
        if place not in places(document):
            continue
        try:
            probe = read_probe_set(written(path, replaced(document, place, value)))
        except ProbeSetError:
            continue
        assert probe.samples > 0
        assert all(array.rows == probe.samples for array in probe.inputs)
        assert (probe.expected is None) == bool(probe.labels)


# ---- refusals: the fields ----


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": None}, "inputs: expected a list of tensors"),
        ({"inputs": []}, "inputs: expected a list of tensors"),
        ({"inputs": {"x": X}}, "inputs: expected a list of tensors"),
        ({"inputs": [3]}, "inputs[0]: expected a tensor; found int"),
        ({"inputs": [X, {**X, "name": ""}]}, "inputs[1].name: expected a text"),
        ({"inputs": [{**X, "name": 4}]}, "inputs[0].name: expected a text"),
        (
            {"inputs": [{**X, "datatype": "float32"}]},
            f"inputs[0].datatype: expected one of {', '.join(NUMBERS)}, BYTES; found 'float32'",
        ),
        ({"inputs": [{**X, "shape": 6}]}, "inputs[0].shape: expected a list of sizes; found 6"),
        ({"inputs": [{**X, "shape": [-2, -3]}]}, "inputs[0].shape: expected a list of sizes; found [-2, -3]"),
        ({"inputs": [{**X, "shape": [2.0, 3]}]}, "inputs[0].shape: expected a list of sizes; found [2.0, 3]"),
        ({"inputs": [{**X, "shape": [True, 6]}]}, "inputs[0].shape: expected a list of sizes; found [True, 6]"),
        ({"inputs": [{**X, "shape": [2, 4]}]}, "inputs[0].data: expected 8 values for shape [2, 4]; found 6"),
        ({"inputs": [{**X, "data": "text"}]}, "data: expected a list; found str"),
        ({"inputs": [{**X, "data": [[1.0], 2.0]}]}, "data: expected lists of one depth"),
        ({"inputs": [{**X, "data": [1, 2, 3, 4, 5, [6]]}]}, "data: expected lists of one depth"),
        ({"inputs": [X, X]}, "inputs: expected each name once"),
        ({"labels": 1}, "labels: expected a list with one entry for each sample"),
        ({"labels": []}, "labels: expected a list with one entry for each sample"),
        ({"labels": [[], []]}, "labels: expected lists of one length"),
        ({"labels": [[1], [1, 0]]}, "labels: expected lists of one length"),
        ({"labels": [[1], 0]}, "labels: expected lists of one length"),
        ({"labels": None}, "expected either labels, or expected with reference outputs"),
        ({"expected": EXPECTED}, "expected either labels, or expected with reference outputs"),
        ({"labels": [0, 1, 1]}, "x: expected 3 rows, one for each sample; found the shape [2, 3]"),
        (
            {"inputs": [{**X, "shape": [], "data": [1.0]}], "labels": [1]},
            "x: expected 1 rows, one for each sample; found the shape []",
        ),
        (
            {"labels": None, "expected": {**EXPECTED, "shape": [0, 2], "data": []}, "metric": "distance"},
            "x: expected 0 rows, one for each sample; found the shape [2, 3]",
        ),
        ({"labels": None, "expected": [1, 2]}, "expected: expected a tensor; found list"),
        ({"output": ""}, "output: expected the name of an output of the model"),
        ({"output": None}, "output: expected the name of an output of the model"),
        (
            {"lables": [0]},
            f"lables: unknown; expected {FIELDS}",
        ),
        ({"task": "detection"}, f"task: expected one of {TASKS}; found 'detection'"),
        ({"task": ["score"]}, f"task: expected one of {TASKS}; found \"['score']\""),
        (
            {"metric": "f1"},
            "metric: expected one of accuracy, within, agreement, auc, r2, mae, rmse, distance; found 'f1'",
        ),
        ({"ragged": 1}, "ragged: expected true or false; found '1'"),
        (
            {"ragged": True},
            "ragged: expected reference outputs (expected) of floating-point numbers beside it",
        ),
        ({"unordered": "yes"}, "unordered: expected true or false; found 'yes'"),
        ({"unordered": True}, UNORDERED),
        ({"top": 0}, "top: expected a whole number from 1; found '0'"),
        ({"top": 1.0}, "top: expected a whole number from 1; found '1.0'"),
        ({"top": True}, "top: expected a whole number from 1; found 'True'"),
        ({"threshold": "0.5"}, "threshold: expected a number; found '0.5'"),
        ({"threshold": math.inf}, "threshold: expected a number; found 'inf'"),
        ({"threshold": math.nan}, "threshold: expected a number; found 'nan'"),
        ({"threshold": BEYOND_FLOATS}, f"threshold: expected a number; found '1{'0' * 79}'"),
        ({"tolerance": {"absolute": -1}}, "tolerance.absolute: expected a number from 0; found '-1'"),
        ({"tolerance": {"relative": None}}, "tolerance.relative: expected a number from 0; found 'None'"),
        ({"tolerance": {"relative": math.nan}}, "tolerance.relative: expected a number from 0; found 'nan'"),
        ({"tolerance": 1}, "tolerance.absolute: expected a number from 0; found 'None'"),
        ({"tolerance": 0}, "tolerance.absolute: expected a number from 0; found 'None'"),
        ({"tolerance": []}, "tolerance.absolute: expected a number from 0; found 'None'"),
        (
            {"metric": "within"},
            'tolerance: expected how far off an answer may be, such as {"absolute": 0.01, "relative": 0}',
        ),
        (
            {"labels": None, "expected": EXPECTED},
            'tolerance: expected how far off an answer may be, such as {"absolute": 0.01, "relative": 0}',
        ),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_wrong_field_is_refused_with_what_was_expected(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    assert refused(written(tmp_path / "probe.json", {**GOOD, **changes})) == message


def test_only_floating_point_numbers_can_say_that_a_box_is_missing(tmp_path: Path) -> None:
    expected = {"datatype": "INT32", "shape": [2, 1], "data": [1, 2]}
    path = written(tmp_path / "probe.json", {**REFERENCE, "expected": expected, "ragged": True})
    assert refused(path) == "ragged: expected reference outputs (expected) of floating-point numbers beside it"


# ---- refusals: the archive ----

NO_SETTINGS = 'expected an array "probe" with the settings as JSON; see docs/release.md'


@pytest.mark.parametrize("settings", [None, np.array([1]), np.array(["{}"]), np.array(3)])
def test_an_archive_has_its_settings_as_one_text(tmp_path: Path, settings: Any) -> None:
    path = str(tmp_path / "probe.npz")
    arrays = {"labels": np.array([0])} if settings is None else {"probe": settings}
    np.savez(path, **arrays)
    assert refused(path) == NO_SETTINGS


@pytest.mark.parametrize(
    ("settings", "arrays", "message"),
    [
        ([1], {}, "probe: expected a JSON object; found list"),
        ({"inputs": []}, {}, "probe: inputs: expected it as an array of the file"),
        ({"labels": [], "expected": 1}, {}, "probe: expected: expected it as an array of the file"),
        ({}, {"x": np.zeros(2)}, "x: expected probe, labels, expected or input:<name>"),
        ({"output": "y"}, {"input_x": np.zeros(2)}, "expected either labels, or expected with reference outputs"),
        ({"output": "y"}, {"labels": np.array([1])}, "inputs: expected at least one"),
        (
            {"output": "y"},
            {"labels": np.array([1]), "input_x": np.zeros((2, 2))},
            "x: expected 1 rows, one for each sample; found the shape [2, 2]",
        ),
        (
            {"output": "y"},
            {"labels": np.zeros(FLAGS_MAX + 1, dtype=np.uint8), "input_x": np.zeros(1)},
            f"labels: expected at most {FLAGS_MAX} samples; found {FLAGS_MAX + 1}",
        ),
        (
            {"output": "y", "top": 0},
            {"labels": np.zeros(2), "input_x": np.zeros(2)},
            "top: expected a whole number from 1",
        ),
        ({"output": "y"}, {"labels": np.array([1j])}, "labels: expected numbers, booleans or texts; found type '<c16'"),
    ],
)
def test_a_wrong_archive_is_refused(tmp_path: Path, settings: Any, arrays: dict[str, Any], message: str) -> None:
    assert refused(archived(tmp_path / "probe.npz", settings, **arrays)).startswith(message)


def test_settings_that_are_no_json_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "probe.npz", probe=np.array("task: labels"))
    assert refused(str(tmp_path / "probe.npz")).startswith("Expecting value")


def test_an_archive_that_ends_early_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "probe.npz"
    archived(path, {"output": "y"}, labels=np.array([1]), input_x=np.zeros(1))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert refused(str(path)) == "expected a .npz file; File is not a zip file"


# ---- which task and metric it is ----


@pytest.mark.parametrize(
    ("probe", "output", "task", "metric"),
    [
        (made((0, 2)), Output("FP32", 3), Task.CLASS_SCORES, Metric.ACCURACY),
        (made((4, -1)), Output("INT64", 1), Task.LABELS, Metric.ACCURACY),
        (made(("a", "b")), Output(TEXT, 1), Task.LABELS, Metric.ACCURACY),
        (made((True, False)), Output("BOOL", 1), Task.LABELS, Metric.ACCURACY),
        (made((1, 0, 1, 1), 2), Output("FP16", 2), Task.MULTI_LABEL, Metric.ACCURACY),
        (made((True, False, True, True), 2), Output("BOOL", 2), Task.MULTI_LABEL, Metric.ACCURACY),
        (made((1.5, 2.0)), Output("FP32", 1), Task.REGRESSION, Metric.MAE),
        (made((-0.5, 2, 0.0, 1.0), 2), Output("FP64", 2), Task.REGRESSION, Metric.MAE),
        (reference(), Output("FP32", 7), Task.REFERENCE, Metric.AGREEMENT),
        (reference(declared_metric=Metric.DISTANCE), None, Task.REFERENCE, Metric.DISTANCE),
        (made(declared_task=Task.SCORE), Output("FP64", 1), Task.SCORE, Metric.AUC),
        (made(declared_task=Task.SCORE), Output("FP32", 2), Task.SCORE, Metric.AUC),
        (
            made((True, False), declared_task=Task.SCORE, declared_metric=Metric.ACCURACY),
            None,
            Task.SCORE,
            Metric.ACCURACY,
        ),
        (made((0.5, 2), declared_task=Task.REGRESSION), Output("FP32", 1), Task.REGRESSION, Metric.MAE),
        (made((1, 2, 3, 4), 2, declared_task=Task.REGRESSION), Output("INT8", 2), Task.REGRESSION, Metric.MAE),
        (made((9, 9), declared_task=Task.CLASS_SCORES), None, Task.CLASS_SCORES, Metric.ACCURACY),
        (made((0, 1), declared_task=Task.CLASS_SCORES), Output("UINT8", 2), Task.CLASS_SCORES, Metric.ACCURACY),
        (made(("a", "b"), declared_task=Task.LABELS), None, Task.LABELS, Metric.ACCURACY),
        (made((1.0, 2.0), declared_task=Task.LABELS), Output("FP32", 1), Task.LABELS, Metric.ACCURACY),
    ],
)
def test_the_task_and_the_metric_follow(probe: ProbeSet, output: Output | None, task: Task, metric: Metric) -> None:
    assert probe.resolved(output) == (task, metric)


NOTHING_KNOWN = (
    f"task: nothing is known of the output 'y': declare one of {TASKS}, or publish a golden file that has this output"
)
SCORE_OR_PREDICTION = (
    "task: the output 'y' has one number for each sample, which may be a score or a "
    "prediction: declare score or regression"
)


ONE_HOT = (
    "task: each sample has exactly one of the labels, as classes are often written: give the place of the right class "
    "instead, such as numpy.argmax(labels, axis=1), or declare multi_label"
)


NO_TASK = (
    "labels: the output 'y' has 3 values of FP32 for each sample, and 2 labels, which fit each other in no task: give "
    "one number for each value, or where the values are scores of classes, the place of the right one. Without "
    "labels, reference outputs (expected) are what answers are compared with"
)
OF_CLASSES = (
    "of classes, such as those of tokens or pixels, declare reference with the metric distance where there are two, or "
    "agreement with a tolerance of 0"
)
TWO_OF_EITHER = "2 labels: declare multi_label or regression"


def places_wanted(most: int, found: str) -> str:
    """The refusal of labels that are no places of classes."""
    return f"labels: expected places from 0 to {most} and at least 2 scores for each sample in 'y'; found {found}"


@pytest.mark.parametrize(
    ("probe", "output", "message"),
    [
        (
            made(),
            None,
            NOTHING_KNOWN,
        ),
        (made(), Output("FP32", 1), SCORE_OR_PREDICTION),
        (
            made((0, 1, 2, 3), 2),
            Output("FP32", 3),
            NO_TASK,
        ),
        (
            made((0, 2, 0, 1), 2),
            Output("FP32", 2),
            "task: the output 'y' has 2 values of FP32 for each sample, and 2 labels: declare regression",
        ),
        (
            made((0.5, 1)),
            Output("FP32", 2),
            "labels: expected places of the right classes among the 2 values of 'y', whole numbers from 0; found 0.5",
        ),
        (
            made(("cat", "dog")),
            Output("FP32", 2),
            "labels: expected places of the right classes among the 2 values of 'y', whole numbers from 0; found 'cat'",
        ),
        (
            made((1, 0, 0, 1), 2),
            Output("FP32", 2),
            ONE_HOT,
        ),
        (
            made(),
            Output("INT64", 2),
            "task: the output 'y' has 2 values of INT64 for each sample, and 1 label: declare class_scores or score",
        ),
        (
            made((3, 250_000)),
            Output("FP32", 1),
            "task: the output 'y' has 1 value of FP32 for each sample, and 1 label: declare labels or regression",
        ),
        (
            made((1, 0, 0, 1), 2),
            Output("INT64", 2),
            f"task: the output 'y' has 2 values of INT64 for each sample, and {TWO_OF_EITHER}; {OF_CLASSES}",
        ),
        (
            made(declared_metric=Metric.AUC),
            Output("FP32", 2),
            "metric: expected one of accuracy for the task class_scores; found auc",
        ),
        (
            reference(declared_metric=Metric.MAE),
            None,
            "metric: expected one of agreement, distance for the task reference; found mae",
        ),
        (made(declared_task=Task.REFERENCE), None, "expected expected for the task reference; found labels"),
        (reference(declared_task=Task.LABELS), None, "expected labels for the task labels; found expected"),
        (
            made((0, 1, 1, 0), 2, declared_task=Task.LABELS),
            None,
            "labels: expected one for each sample; found 2",
        ),
        (
            made((0.0, 1.0), declared_task=Task.CLASS_SCORES),
            None,
            "labels: expected whole numbers, the places of the right classes",
        ),
        (
            made((0, 3)),
            Output("FP32", 3),
            places_wanted(2, "0 to 3, 3 scores, top 1"),
        ),
        (
            made((-1, 2)),
            Output("FP32", 3),
            places_wanted(2, "-1 to 2, 3 scores, top 1"),
        ),
        (
            made((0, 1), top=3),
            Output("FP32", 3),
            places_wanted(2, "0 to 1, 3 scores, top 3"),
        ),
        (
            made((0, 0), declared_task=Task.CLASS_SCORES),
            Output("FP32", 1),
            places_wanted(0, "0 to 0, 1 scores, top 1"),
        ),
        (
            made((1, 1), declared_task=Task.SCORE),
            None,
            "labels: expected 0 and 1, both at least once, for the task score",
        ),
        (
            made((0, 1, 2), declared_task=Task.SCORE),
            None,
            "labels: expected 0 and 1, both at least once, for the task score",
        ),
        (made(("0", "1"), declared_task=Task.MULTI_LABEL), None, "labels: expected 0 and 1 for the task multi_label"),
        (
            made((0.5, math.nan), declared_task=Task.REGRESSION),
            None,
            "labels: expected finite numbers for the task regression",
        ),
        (
            made((0.5, BEYOND_FLOATS), declared_task=Task.REGRESSION),
            None,
            "labels: expected finite numbers for the task regression",
        ),
        (
            made((3.5, 3.5), declared_task=Task.REGRESSION, declared_metric=Metric.R2),
            None,
            "labels: expected different numbers for the metric r2; found 3.5 alone",
        ),
        (
            made(("a", "b"), declared_task=Task.REGRESSION),
            None,
            "labels: expected finite numbers for the task regression",
        ),
        (
            made(("a", "b")),
            Output("INT64", 1),
            "labels: expected whole numbers, as the output 'y' has INT64; found 'a'",
        ),
        (made((1, "b")), Output("INT64", 1), "labels: expected whole numbers, as the output 'y' has INT64; found 'b'"),
        (
            made((1, None)),
            Output("INT64", 1),
            "labels: expected whole numbers, as the output 'y' has INT64; found None",
        ),
        (made((1, [2])), Output("INT64", 1), "labels: expected whole numbers, as the output 'y' has INT64; found [2]"),
        (made((1, "b")), Output(TEXT, 1), "labels: expected texts, as the output 'y' has BYTES; found 1"),
        (
            made(declared_task=Task.LABELS),
            Output("INT64", 2),
            "task labels: expected one value for each sample in 'y'; found 2",
        ),
        (
            made(declared_task=Task.SCORE),
            Output("FP32", 3),
            "task score: expected one value for each sample in 'y', or the scores of no and yes; found 3",
        ),
        (
            made(declared_task=Task.SCORE, declared_metric=Metric.ACCURACY),
            Output("FP32", 2),
            "task score: expected one value for each sample in 'y'; found 2",
        ),
        (
            made(),
            Output.of_shape("FP32", (4, 1, 3)),
            (
                "task: the output 'y' has its 12 values of a sample along 2 axes: export the scores of one answer "
                "alone, or declare class_scores where a label is a place among all of them"
            ),
        ),
        (
            made(declared_task=Task.REGRESSION),
            Output("FP32", 4),
            "labels: expected 4 for each sample, as 'y' has values; found 1",
        ),
        (
            made(declared_task=Task.SCORE),
            Output(TEXT, 1),
            "task score: expected numbers in 'y'; found texts",
        ),
        (reference(), Output(TEXT, 1), "task reference: expected numbers in 'y'; found texts"),
        (
            made(samples=FLAGS_MAX + 1),
            Output("FP32", 2),
            f"{FLAGS_MAX + 1} samples: expected at most {FLAGS_MAX} for the metric accuracy",
        ),
        (
            made(samples=NUMBERS_MAX + 1, declared_task=Task.REGRESSION),
            None,
            f"{NUMBERS_MAX + 1} samples: expected at most {NUMBERS_MAX} for the metric mae",
        ),
    ],
    ids=lambda value: value[:50] if isinstance(value, str) else "",
)
def test_what_is_ambiguous_or_does_not_fit_is_refused(probe: ProbeSet, output: Output | None, message: str) -> None:
    with pytest.raises(ProbeSetError, match=f"^{re.escape(message)}$"):
        probe.resolved(output)


def test_the_most_samples_are_accepted() -> None:
    assert made(samples=FLAGS_MAX).resolved(Output("FP32", 2))[1] is Metric.ACCURACY
    assert made(samples=NUMBERS_MAX, declared_task=Task.REGRESSION).resolved(None)[1] is Metric.MAE


def test_each_metric_belongs_to_a_task_and_says_what_is_better() -> None:
    assert {metric for metrics in METRICS.values() for metric in metrics} == set(Metric)
    assert set(METRICS) == set(Task)
    assert {metric.value for metric in Metric if metric.is_error} == {"mae", "rmse", "distance"}
    assert {metric.value for metric in Metric if metric.has_flags} == {"accuracy", "within", "agreement"}
    assert {metric.samples_max for metric in Metric if metric.is_error} == {NUMBERS_MAX}


# ---- what a golden file says of the outputs ----


def test_a_golden_file_tells_the_outputs(tmp_path: Path) -> None:
    assert read_outputs(None) == {}
    assert read_outputs(written(tmp_path / "golden.json", GOLDEN)) == {
        "scores": Output("FP32", 2),
        "word": Output(TEXT, 1),
        "all": Output("INT64", 1),
    }


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ((), [], "TypeError"),
        ((), {}, "KeyError('inputs')"),
        (("outputs",), [], "outputs: expected at least one; found none"),
        (("outputs", 0), 3, "TypeError"),
        (("outputs", 0), {}, "KeyError('shape')"),
        (("outputs", 0, "data"), {}, "data: expected a list; found dict"),
        (("outputs", 0, "data"), [1], "outputs: 'scores': expected 4 values for shape [2, 2]"),
        (("outputs", 1, "datatype"), "STRING", "outputs: 'word': unknown datatype 'STRING'"),
        (("inputs", 0, "shape"), [2, 2], "inputs: 'x': expected 4 values for shape [2, 2]"),
        (("tolerance",), None, "tolerance.absolute: expected a number from 0; found 'None'"),
        (("tolerance", "relative"), -1, "tolerance.relative: expected a number from 0; found '-1'"),
        (
            ("tolerance", "absolute"),
            BEYOND_FLOATS,
            f"tolerance.absolute: expected a number from 0; found '1{'0' * 79}'",
        ),
    ],
    ids=lambda value: str(value)[:50],
)
def test_a_damaged_golden_file_is_named(tmp_path: Path, place: Place, value: Any, message: str) -> None:
    path = written(tmp_path / "golden.json", replaced(GOLDEN, place, value))
    with pytest.raises(ProbeSetError, match=f"^{re.escape(f'{path}: not a golden file: {message}')}"):
        read_outputs(path)


def test_a_missing_golden_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProbeSetError, match=r"golden\.json: not a golden file: FileNotFoundError"):
        read_outputs(str(tmp_path / "golden.json"))


@given(place=st.sampled_from(places(GOLDEN)), value=JSON | st.just(BEYOND_FLOATS))
def test_whatever_json_says_is_a_golden_file_or_is_refused(
    tmp_path_factory: pytest.TempPathFactory, place: Place, value: Any
) -> None:
    path = written(tmp_path_factory.getbasetemp() / "any_golden.json", replaced(GOLDEN, place, value))
    with contextlib.suppress(ProbeSetError):
        assert read_outputs(path)


def test_rows_without_an_order_are_those_of_a_ragged_reference(tmp_path: Path) -> None:
    expected = {"datatype": "FP32", "shape": [2, 1, 4], "data": [0, 0, 1, 1, None, None, None, None]}
    settings = {"output": "y", "expected": expected, "metric": "distance", "unordered": True}
    probe = read_probe_set(written(tmp_path / "probe.json", {**REFERENCE, **settings, "ragged": True}))
    assert (probe.ragged, probe.unordered) == (True, True)
    assert refused(written(tmp_path / "probe.json", {**REFERENCE, **settings})) == UNORDERED
