# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A drift reference of models of every kind, from their files alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx_models
import pytest
from edgeml_server.common.tensors import DTYPES, TensorSpec
from edgeml_server.observe.reference import read_reference
from edgeml_server.tools.drift_reference import reference_of, varying_rows
from links import PYTHON_PATH

ROWS = 40


def tensor(name: str, datatype: str, shape: list[int], data: list[Any]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


def run(tmp_path: Path, content: bytes, *inputs: dict[str, Any], suffix: str = ".onnx") -> tuple[int, str, str]:
    """Run the command on a model's file; return its exit code, its output and its errors."""
    model, rows = tmp_path / f"model{suffix}", tmp_path / "rows.json"
    model.write_bytes(content)
    rows.write_text(json.dumps({"inputs": list(inputs)}))
    done = subprocess.run(
        [sys.executable, "-m", "edgeml_server.tools.drift_reference", str(model), str(rows)],
        env={**os.environ, "PYTHONPATH": str(PYTHON_PATH)},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout, done.stderr


def totals(tmp_path: Path, text: str, *specs: TensorSpec) -> dict[str, float]:
    """How many rows each series counts; the server reads the reference, too."""
    path = tmp_path / "reference.json"
    path.write_text(text)
    return {series.name: float(series.counts.sum()) for series in read_reference(str(path), specs)}


def test_an_output_of_another_size_than_the_file_declares(tmp_path: Path) -> None:
    """As scikit-learn's converter exports one-against-one scores: four are declared, and six come."""
    spec = TensorSpec("scores", "FP32", (-1, 4))
    scores = np.arange(ROWS * 6, dtype=np.float32).reshape(ROWS, 6)
    assert varying_rows([spec], {"scores": scores[:, :4]}) == set()
    varying = varying_rows([spec], {"scores": scores})
    found = json.dumps(reference_of({}, {"scores": scores}, varying))
    assert set(totals(tmp_path, found, spec)) == {"scores_mean", "scores_deviation", "scores_argmax"}


def test_texts_have_no_series_and_do_no_harm(tmp_path: Path) -> None:
    values = {"BOOL": True, "BYTES": "text"}
    inputs = [
        tensor(f"in_{name}", name, [ROWS], [values.get(name, number % 7) for number in range(ROWS)]) for name in DTYPES
    ]
    code, text, errors = run(tmp_path, onnx_models.identities(), *inputs)
    assert code == 0, errors
    specs = [TensorSpec(f"{kind}_{name}", name, (-1,)) for kind in ("in", "out") for name in DTYPES if name != "BYTES"]
    assert totals(tmp_path, text, *specs) == {spec.name: ROWS for spec in specs}


@pytest.mark.parametrize(("rows", "used"), [(ROWS, ROWS), (ROWS + 3, ROWS), (4, 4)])
def test_a_fixed_number_of_rows_is_what_each_batch_has(tmp_path: Path, rows: int, used: int) -> None:
    data = [float(number) for number in range(2 * rows)]
    code, text, errors = run(tmp_path, onnx_models.fixed(4), tensor("x", "FP32", [rows, 2], data))
    assert code == 0, errors
    found = totals(tmp_path, text, TensorSpec("x", "FP32", (4, 2)), TensorSpec("y", "FP32", (4, 2)))
    assert found == {"x_0": rows, "x_1": rows, "y_0": used, "y_1": used}


def test_an_input_without_dimensions_has_a_value_for_each_row(tmp_path: Path) -> None:
    data = [float(number) for number in range(ROWS)]
    code, text, errors = run(tmp_path, onnx_models.scalar(), tensor("x", "FP32", [ROWS], data))
    assert code == 0, errors
    found = totals(tmp_path, text, TensorSpec("x", "FP32", ()), TensorSpec("y", "FP32", ()))
    assert found == {"x": ROWS, "y": ROWS}


def test_the_state_of_a_recurrent_layer_goes_with_each_row(tmp_path: Path) -> None:
    rows = tensor("x", "FP32", [ROWS, 2], [float(number) for number in range(2 * ROWS)])
    state = tensor("state", "FP32", [2, 1, 2], [100.0, 0.0, 100.0, 0.0])
    code, text, errors = run(tmp_path, onnx_models.with_state(), rows, state)
    assert code == 0, errors
    series = {each["name"]: each for each in json.loads(text)["series"]}
    assert set(series) == {"x_0", "x_1", "y_0", "y_1"}
    # Without the state, the first number of a row would be from 0 to 78.
    assert min(series["y_0"]["edges"]) >= 100


def test_rows_that_are_not_as_many_are_told(tmp_path: Path) -> None:
    inputs = [tensor(name, "FP32", [count, 2], [0.0] * 2 * count) for name, count in (("a", 3), ("b", 4))]
    code, _text, errors = run(tmp_path, onnx_models.pair(), *inputs)
    assert code == 1
    assert "expected as many rows of each input; found {'a': 3, 'b': 4}" in errors


@pytest.mark.parametrize(
    ("content", "given", "suffix", "expected"),
    [
        (onnx_models.fixed(4), tensor("x", "FP32", [3, 2], [0.0] * 6), ".onnx", "expected at least 4 rows"),
        (onnx_models.identity("BYTES"), tensor("in", "BYTES", [2], ["a", "b"]), ".onnx", "expected inputs or outputs"),
        (b"", tensor("x", "FP32", [1], [0.0]), ".bin", "expected a version's directory or a file .onnx, .tflite"),
    ],
)
def test_what_has_no_reference_is_told(
    tmp_path: Path, content: bytes, given: dict[str, Any], suffix: str, expected: str
) -> None:
    code, _text, errors = run(tmp_path, content, given, suffix=suffix)
    assert code == 1
    assert expected in errors
    assert len(errors.splitlines()) == 1
