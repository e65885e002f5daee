# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which models' rows are proved to be independent of each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_models
import pytest
from edgeml_server.models.backend import BackendOptions
from edgeml_server.models.backend_onnx import OnnxBackend
from edgeml_server.models.independence import has_independent_rows

ROWS = {
    "one row": [[0.5, -1.5]],
    "small rows": [[0.01, 0.02], [0.02, 0.01], [0.03, 0.01]],
    "many rows": [[float(number), 1.0 - number] for number in range(9)],
    "equal rows": [[1.0, 2.0], [1.0, 2.0]],
}
DEPENDENT = {
    "centred": onnx_models.centred(),
    "running sum": onnx_models.running_sum(),
    "running sum from behind": onnx_models.running_sum(backwards=True),
    "largest": onnx_models.largest(),
    "dynamically quantised": onnx_models.dynamically_quantised(),
    "lstm": onnx_models.lstm(),
}
INDEPENDENT = {"plus": onnx_models.plus(1), "scores": onnx_models.scores()}


def opened(content: bytes, tmp_path: Path) -> OnnxBackend:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    return OnnxBackend(str(path), BackendOptions(threads=1))


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("name", DEPENDENT)
def test_rows_that_depend_on_each_other_are_found(name: str, rows: str, tmp_path: Path) -> None:
    backend = opened(DEPENDENT[name], tmp_path)
    assert backend.couples_rows == (name == "dynamically quantised")
    # By its rows, whatever its file says.
    backend.couples_rows = False
    assert not has_independent_rows(backend, {"x": np.array(ROWS[rows], np.float32)})


def test_dynamic_quantisation_is_found_where_no_golden_row_shows_it(tmp_path: Path) -> None:
    backend, golden = opened(onnx_models.quantised_words(), tmp_path), {"x": np.array([[1], [2], [3]])}
    alone, beside = (backend.run({"x": np.array(words)}, ["y"])[0][0] for words in ([[1]], [[1], [5]]))
    assert np.abs(alone - beside).max() > 0.4, "a word of one client changes the answer of another one"
    assert not has_independent_rows(backend, golden)
    backend.couples_rows = False
    assert has_independent_rows(backend, golden), "the golden rows alone would have it batched"


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("name", INDEPENDENT)
def test_independent_rows_are_proved(name: str, rows: str, tmp_path: Path) -> None:
    backend = opened(INDEPENDENT[name], tmp_path)
    assert has_independent_rows(backend, {"x": np.array(ROWS[rows], np.float32)})


def test_whole_numbers_stay_within_the_golden_ones(tmp_path: Path) -> None:
    """They may be places in a table: one that is not there would fail, and prove nothing."""
    backend = opened(onnx_models.gather(), tmp_path)
    assert has_independent_rows(backend, {"index": np.array([2, 0])})


def test_a_model_that_answers_nothing_but_one_row_is_not_proved(tmp_path: Path) -> None:
    assert not has_independent_rows(opened(onnx_models.reshape(1), tmp_path), {"x": np.array([1.0], np.float32)})


def test_no_rows_prove_nothing(tmp_path: Path) -> None:
    assert not has_independent_rows(opened(onnx_models.plus(1), tmp_path), {"x": np.zeros((0, 2), np.float32)})
