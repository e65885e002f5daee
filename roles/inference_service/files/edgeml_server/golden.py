# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The smoke test that a release brings along: does this runtime compute what the exporter computed?"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from .backend import Backend
from .errors import InvalidRequestError, ModelError
from .inference import parse_inputs
from .tensors import DTYPES, Array, TensorSpec, datatype_of, from_json


def check_golden(backend: Backend, path: str) -> None:
    """Run the inputs in the golden file at ``path`` and compare the outputs with those in it.

    Raises ModelError, which names the output, the place, what was expected and what came.
    """
    try:
        with open(path, "rb") as file:
            golden = json.load(file)
        tolerance = golden["tolerance"]
        absolute, relative = float(tolerance["absolute"]), float(tolerance["relative"])
        inputs = parse_inputs(backend.inputs, golden["inputs"])
        expected = {str(item["name"]): _expected(item) for item in golden["outputs"]}
    except (OSError, ValueError, KeyError, TypeError, RecursionError, InvalidRequestError) as error:
        raise ModelError(f"{path}: not a golden test for this model: {error!r}") from error
    known = {spec.name for spec in backend.outputs}
    if not expected or not set(expected) <= known:
        raise ModelError(f"{path}: outputs: expected names among {', '.join(sorted(known))}; found {sorted(expected)}")
    try:
        actual = dict(zip(expected, backend.run(inputs, list(expected))))
    except Exception as error:
        raise ModelError(f"{path}: golden test: the model fails on the golden inputs: {error}") from error
    for name, wanted in expected.items():
        _compare(name, wanted, actual[name], absolute, relative)


def warm_up(backend: Backend) -> None:
    """Run the model once on zeros, so that no client waits for what the runtime does on its first run.

    Raises whatever the runtime raises: made-up inputs do not fit every model.
    """
    inputs = {}
    for spec in backend.inputs:
        fill = "" if spec.datatype == "BYTES" else 0
        inputs[spec.name] = np.full([max(size, 1) for size in spec.shape], fill, DTYPES[spec.datatype])
    backend.run(inputs, [spec.name for spec in backend.outputs])


def _expected(item: Mapping[str, Any]) -> Array:
    shape = tuple(int(size) for size in item["shape"])
    return from_json(TensorSpec(item["name"], item["datatype"], shape), shape, item["data"])


def _compare(name: str, expected: Array, actual: Array, absolute: float, relative: float) -> None:
    found = (datatype_of(actual), list(actual.shape))
    wanted = (datatype_of(expected), list(expected.shape))
    if found != wanted:
        raise ModelError(f"golden test: output {name!r}: expected {wanted[0]} {wanted[1]}; found {found[0]} {found[1]}")
    if expected.dtype.kind == "f":
        with np.errstate(invalid="ignore", over="ignore"):
            wide = expected.astype(np.float64)
            near = np.abs(actual.astype(np.float64) - wide) <= absolute + relative * np.abs(wide)
        same = near | (actual == expected)
    else:
        same = np.asarray(actual == expected)
    if not same.all():
        first = tuple(int(index) for index in np.argwhere(~same)[0])
        raise ModelError(
            f"golden test: output {name!r} at {list(first)}: expected {expected[first]}, found {actual[first]} "
            f"(tolerance {absolute:g} absolute + {relative:g} relative); "
            f"{int(np.count_nonzero(~same))} of {same.size} values differ"
        )
