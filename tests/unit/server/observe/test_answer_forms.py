# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What answers are, by the probe set of their release: which of them agree, and what a label is compared with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgeml_device._release.probe_set import Task
from edgeml_server.common.tensors import TensorSpec
from edgeml_server.observe.answers import (
    NO_CLASS,
    UNKNOWN,
    AnswerForm,
    Tolerance,
    answer_in,
    predictions_of,
    read_answer_form,
    rows_of,
)
from edgeml_server.observe.shadow import agreeing_rows

OUTPUTS = [
    TensorSpec("vector", "FP32", (-1, 3)),
    TensorSpec("one", "FP32", (-1, 1)),
    TensorSpec("grid", "FP32", (-1, -1)),
    TensorSpec("word", "BYTES", (-1,)),
]
X = {"name": "x", "datatype": "FP32", "shape": [2, 1], "data": [1, 2]}
NAN = float("nan")


def agree(active: Any, candidate: Any, form: AnswerForm | None) -> bool:
    """Whether two outputs agree in all rows."""
    return bool(agreeing_rows(active, candidate, len(active), form or UNKNOWN).all())


def probe(path: Path, output: str, labels: Any, **settings: Any) -> str:
    """A probe set, as JSON."""
    path.write_text(json.dumps({"inputs": [X], "output": output, "labels": labels, **settings}))
    return str(path)


@pytest.mark.parametrize(
    ("output", "labels", "settings", "form"),
    [
        ("vector", [0, 2], {}, (Task.CLASS_SCORES, None)),
        ("vector", [[1, 0, 1], [0, 0, 0]], {"threshold": 0.25}, (Task.MULTI_LABEL, 0.25)),
        ("vector", [[0.5, 1, 2], [1, 2, 3]], {}, (Task.REGRESSION, None)),
        ("one", [0, 1], {"task": "score", "metric": "accuracy"}, (Task.SCORE, 0.5)),
        # The area under the curve is that of all thresholds.
        ("one", [0, 1], {"task": "score"}, (Task.SCORE, None)),
        ("word", ["a", "b"], {}, (Task.LABELS, None)),
        ("grid", [0, 1], {"task": "class_scores"}, (Task.CLASS_SCORES, None)),
    ],
)
def test_a_probe_set_says_what_the_answers_are(
    tmp_path: Path, output: str, labels: Any, settings: dict[str, Any], form: tuple[Task, float | None]
) -> None:
    path = probe(tmp_path / "probe.json", output, labels, **settings)
    assert read_answer_form(path, OUTPUTS) == AnswerForm(output, *form)


def test_an_archive_says_it_whatever_its_size(tmp_path: Path) -> None:
    path = tmp_path / "probe.npz"
    large = np.random.default_rng(1).standard_normal((2, 200_000))
    arrays: dict[str, Any] = {"input:x": large, "labels": np.array([0, 2]), "probe": np.array('{"output": "vector"}')}
    np.savez(path, **arrays)
    assert read_answer_form(str(path), OUTPUTS) == AnswerForm("vector", Task.CLASS_SCORES)


def test_numbers_are_right_within_the_tolerance_of_a_metric_that_counts_them(tmp_path: Path) -> None:
    tolerance = {"absolute": 0.5, "relative": 0.1}
    within = probe(tmp_path / "within.json", "one", [0.5, 1.5], metric="within", tolerance=tolerance)
    assert read_answer_form(within, OUTPUTS) == AnswerForm("one", Task.REGRESSION, None, Tolerance(0.5, 0.1))
    mean = probe(tmp_path / "mean.json", "one", [0.5, 1.5], metric="mae")
    assert read_answer_form(mean, OUTPUTS) == AnswerForm("one", Task.REGRESSION)


def test_a_golden_file_says_which_sizes_a_model_leaves_open(tmp_path: Path) -> None:
    """Numbers in an output of any size would be taken for scores."""
    golden = tmp_path / "golden.json"
    grid = {"name": "grid", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}
    golden.write_text(json.dumps({"inputs": [X], "outputs": [grid], "tolerance": {"absolute": 0, "relative": 0}}))
    path = probe(tmp_path / "probe.json", "grid", [[0.5, 1], [1, 2]])
    assert read_answer_form(path, OUTPUTS) == AnswerForm("grid", None)
    assert read_answer_form(path, OUTPUTS, str(golden)) == AnswerForm("grid", Task.REGRESSION)
    golden.write_text("{")
    assert read_answer_form(path, OUTPUTS, str(golden)) == AnswerForm("grid", None)


def test_what_says_little_is_no_failure(tmp_path: Path) -> None:
    path = tmp_path / "probe.json"
    path.write_text(
        json.dumps({"inputs": [X], "output": "one", "expected": X, "tolerance": {"absolute": 1}, "task": "reference"})
    )
    assert read_answer_form(str(path), OUTPUTS) == AnswerForm("one", None, None, Tolerance(1, 0))
    damaged = tmp_path / "damaged.json"
    damaged.write_text("{")
    ambiguous = probe(tmp_path / "ambiguous.json", "one", [0, 1])
    unknown = probe(tmp_path / "unknown.json", "grid", [0, 1])
    other = probe(tmp_path / "other.json", "absent", [0, 1])
    large = probe(tmp_path / "large.json", "vector", [0, 1])
    with open(large, "a", encoding="utf-8") as file:
        file.write(" " * (1 << 20))
    assert read_answer_form(ambiguous, OUTPUTS) == AnswerForm("one")
    assert read_answer_form(unknown, OUTPUTS) == AnswerForm("grid")
    for each in (None, str(damaged), other, large, str(tmp_path / "none.json")):
        assert read_answer_form(each, OUTPUTS) is None, each


BOXES = {"name": "vector", "datatype": "FP32", "shape": [2, 3], "data": [0.5, 1, 2, 1, 2, 3]}


@pytest.mark.parametrize(
    ("settings", "numbers"),
    [
        ({"metric": "distance"}, True),
        ({"ragged": True, "tolerance": {"absolute": 1}}, True),
        # These may be scores of classes of which nobody has the right ones.
        ({"tolerance": {"absolute": 1}}, False),
    ],
)
def test_boxes_are_no_scores_of_classes(tmp_path: Path, settings: dict[str, Any], numbers: bool) -> None:
    """A box elsewhere has its highest coordinate at the same place, and is another answer all the same."""
    path = tmp_path / "probe.json"
    expected = {**BOXES, "shape": [2, 1, 3]} if "ragged" in settings else BOXES
    path.write_text(
        json.dumps({"inputs": [X], "output": "vector", "expected": expected, "task": "reference", **settings})
    )
    form = read_answer_form(str(path), OUTPUTS)
    assert form is not None
    assert (form.task is not None) is numbers
    box = np.array([[0.5, 1.0, 2.0]], np.float32)
    assert agree(box, box, form)
    assert agree(box, box + 4, form) is not numbers


SCORES = np.array([[0.1, 0.7, 0.2], [NAN, 0.2, 0.1]], np.float32)


@pytest.mark.parametrize(
    ("values", "task", "threshold", "expected"),
    [
        (SCORES, None, None, [1, NO_CLASS]),
        (SCORES, Task.CLASS_SCORES, None, [1, NO_CLASS]),
        (SCORES.reshape(2, 1, 3), None, None, None),
        (SCORES.reshape(2, 1, 3), Task.CLASS_SCORES, None, [1, NO_CLASS]),
        (SCORES, Task.MULTI_LABEL, 0.2, [[0, 1, 1], [NO_CLASS] * 3]),
        (SCORES > 0.5, Task.MULTI_LABEL, 0.5, [[0, 1, 0], [0, 0, 0]]),
        (SCORES.astype(np.float64), Task.REGRESSION, None, [SCORES[0].astype(float).tolist(), None]),
        (np.array([[4], [5]]), Task.REGRESSION, None, [4.0, 5.0]),
        (np.array([[4], [5]]), Task.LABELS, None, [4, 5]),
        (np.array([0.25, 0.75, NAN]), Task.SCORE, 0.5, [0, 1, NO_CLASS]),
        (np.array([0.25, NAN]), Task.SCORE, None, [0.25, None]),
        (np.array(0.75), Task.SCORE, 0.5, [1]),
        (np.array(["a", "b"], object), Task.LABELS, None, ["a", "b"]),
        (np.zeros((65, 2)), Task.CLASS_SCORES, None, None),
        (np.zeros((0, 2)), Task.CLASS_SCORES, None, None),
        (np.zeros((2, 0)), Task.REGRESSION, None, None),
        # The scores of no and yes.
        (np.array([[0.4, 0.6], [0.9, 0.1], [NAN, 1.0]]), Task.SCORE, None, [1, 0, -1]),
    ],
)
def test_what_a_label_is_compared_with(
    values: Any, task: Task | None, threshold: float | None, expected: list[Any] | None
) -> None:
    found = predictions_of(values, None if task is None else AnswerForm("y", task, threshold))
    assert found == expected
    assert list(map(type, found or [])) == list(map(type, expected or []))


@pytest.mark.parametrize(
    ("active", "candidate", "task", "threshold", "same"),
    [
        # Without a form several numbers count as scores of classes.
        ([[1.0, 2.0]], [[1.0, 900.0]], None, None, True),
        ([[1.0, 2.0]], [[1.0, 900.0]], Task.CLASS_SCORES, None, True),
        ([[1.0, 2.0]], [[1.0, 900.0]], Task.REGRESSION, None, False),
        ([[1.0, 2.0]], [[1.0, 2.0001]], Task.REGRESSION, None, True),
        ([[0.1, 0.9]], [[0.6, 0.9]], Task.MULTI_LABEL, 0.5, False),
        ([[0.1, 0.9]], [[0.4, 0.6]], Task.MULTI_LABEL, 0.5, True),
        ([[0.1]], [[0.4]], Task.SCORE, 0.5, True),
        ([[0.1]], [[0.4]], Task.SCORE, None, False),
        ([[0.4]], [[0.6]], Task.SCORE, 0.5, False),
        # More rows than have predictions in the log.
        ([[1.0, 2.0]] * 100, [[1.0, 3.0]] * 100, Task.CLASS_SCORES, None, True),
        ([[1.0, 2.0]] * 100, [[1.0, 3.0]] * 100, None, None, True),
        ([[NAN, 2.0]], [[NAN, 2.0]], Task.CLASS_SCORES, None, True),
    ],
)
def test_which_answers_of_a_shadow_agree(
    active: Any, candidate: Any, task: Task | None, threshold: float | None, same: bool
) -> None:
    form = None if task is None else AnswerForm("y", task, threshold)
    assert agree(np.array(active), np.array(candidate), form) == same


CLASSES = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])


@pytest.mark.parametrize(
    ("active", "candidate", "rows", "form", "agreeing"),
    [
        (CLASSES, CLASSES[[1, 1, 2]], 3, UNKNOWN, [False, True, True]),
        (CLASSES, CLASSES[[1, 1, 2]], 3, AnswerForm("y", Task.REGRESSION), [False, True, True]),
        (CLASSES, CLASSES + 0.4, 3, AnswerForm("y", Task.REGRESSION, None, Tolerance(0.5, 0)), [True] * 3),
        (CLASSES[:, :1] > 0.5, CLASSES[:, 1:] > 0.5, 3, UNKNOWN, [False] * 3),
        (CLASSES.reshape(3, 2, 1), CLASSES[[1, 1, 2]].reshape(3, 2, 1), 3, UNKNOWN, [False, True, True]),
        (np.array([["a"], ["b"]], object), np.array([["a"], ["c"]], object), 2, UNKNOWN, [True, False]),
        (np.zeros((2, 0)), np.zeros((2, 0)), 2, UNKNOWN, [True, True]),
        # A row of another form is another answer, in each row.
        (CLASSES, CLASSES[:, :1], 3, UNKNOWN, [False] * 3),
        (CLASSES, CLASSES[:2], 3, UNKNOWN, [False] * 3),
        # Boxes of one image, which has no row for each, are one answer.
        (CLASSES, CLASSES[[1, 1, 2]], 1, AnswerForm("y", Task.REFERENCE), [False]),
        (CLASSES, CLASSES, 1, AnswerForm("y", Task.REFERENCE), [True]),
        (CLASSES, CLASSES[:2], 1, AnswerForm("y", Task.REFERENCE), [False]),
        (np.zeros((0, 4)), np.zeros((0, 4)), 1, UNKNOWN, [True]),
        (np.array(1.0), np.array(1.0), 1, UNKNOWN, [True]),
        (CLASSES, CLASSES, 0, UNKNOWN, [True]),
    ],
)
def test_which_rows_of_a_request_agree(
    active: Any, candidate: Any, rows: int, form: AnswerForm, agreeing: list[bool]
) -> None:
    assert agreeing_rows(active, candidate, rows, form).tolist() == agreeing


def test_the_rows_of_a_request_are_those_that_its_inputs_have_in_common() -> None:
    image, state = np.zeros((4, 8)), np.zeros((2, 4, 8))
    assert (rows_of({"a": image, "b": image}), rows_of({"a": image, "state": state})) == (4, 0)
    assert (rows_of({"a": np.array(1.0)}), rows_of({})) == (0, 0)


def test_where_the_answers_were_not_asked_for_the_first_output_counts() -> None:
    form = AnswerForm("label", Task.LABELS)
    vector, label = np.zeros((1, 3)), np.array([1])
    assert answer_in({"vector": vector, "label": label}, form) == (label, form)
    assert answer_in({"vector": vector}, form) == (vector, None)
    assert answer_in({}, form) == (None, None)
