# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Command line: ``python -m edgeml_server.tools.drift_reference MODEL ROWS > reference.json``.

Makes a release's drift reference: runs the model on ROWS, which should be many (thousands) and typical of what is to
come, and notes how its inputs and outputs are distributed. MODEL is a version's directory in a store, or a model's file
(``.onnx``, ``.tflite``) before there is a release. ROWS is JSON with ``inputs`` as in a request or a probe set.

The rows go through the model in batches of its own size. An input that the model declares without dimensions has one
value for each row, or a single one for all. Texts have no statistics, but the model's outputs for them do.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from edgeml_device._common.errors import EdgemlError

from edgeml_server.common.errors import RequestError
from edgeml_server.common.tensors import Array, TensorSpec
from edgeml_server.models.backend import Backend, BackendOptions
from edgeml_server.models.inference import parse_inputs
from edgeml_server.models.loading import ModelFiles, load
from edgeml_server.observe.reference import SCHEMA, Series

from .smoke import files_in

_BATCH_ROWS = 32
_BINS = 10
_CLASSES_MAX = 1000
_FORMATS = {".onnx": "onnx", ".tflite": "tflite"}


def main() -> int:
    """Print the reference. Exit code: 0, or 1 with the reason on standard error."""
    parser = argparse.ArgumentParser(prog="edgeml_server.tools.drift_reference", description="Make a drift reference.")
    parser.add_argument("model", metavar="MODEL", help="a version's directory in a store, or a model's file")
    parser.add_argument("rows", metavar="ROWS", help="JSON with the inputs, many rows of them")
    arguments = parser.parse_args()
    try:
        backend = load(_files(arguments.model), BackendOptions(threads=1)).backend
        with open(arguments.rows, "rb") as file:
            inputs = parse_inputs([_of_any_length(spec) for spec in backend.inputs], json.load(file)["inputs"])
        print(json.dumps(reference_of(inputs, run_rows(backend, inputs))))
    except (RequestError, EdgemlError, OSError, ValueError, KeyError, TypeError) as error:
        print(f"edgeml_server.tools.drift_reference: {error!r}", file=sys.stderr)
        return 1
    return 0


def reference_of(inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> dict[str, Any]:
    """The reference document of these rows: of each input its mean and spread, of scores the class and its score."""
    chosen: list[tuple[str, str, str | int, bool]] = []
    for name, values in [*inputs.items(), *outputs.items()]:
        if values.dtype == object or not values.ndim or not values.size or not np.isfinite(values).any():
            continue
        size = values[0].size
        if size == 1:
            chosen.append((name, name, 0, True))
        elif name in outputs and values.dtype.kind == "f" and values.ndim == 2 and size <= _CLASSES_MAX:
            chosen += [(f"{name}_argmax", name, "argmax", False), (f"{name}_maximum", name, "maximum", True)]
        else:
            chosen += [(f"{name}_mean", name, "mean", True), (f"{name}_deviation", name, "deviation", True)]
    series = []
    for name, tensor, statistic, ordered in chosen:
        rows = inputs[tensor] if tensor in inputs else outputs[tensor]
        draft = Series(name, tensor, statistic, None, np.zeros(rows[0].size))
        values = draft.values(rows)
        edges = None
        if ordered:
            numbers = values[np.isfinite(values)].astype(np.float64)
            if not numbers.size:
                continue
            edges = np.unique(np.quantile(numbers, np.arange(1, _BINS) / _BINS))
        counts = Series(
            name, tensor, statistic, edges, np.zeros(len(draft.counts) if edges is None else len(edges) + 1)
        )
        entry: dict[str, Any] = {"name": name, "tensor": tensor, "statistic": statistic}
        if edges is not None:
            entry["edges"] = edges.tolist()
        series.append({**entry, "counts": counts.histogram(values).tolist()})
    if not series:
        raise ValueError("expected inputs or outputs with numbers in several rows; found none")
    return {"schema": SCHEMA, "series": series}


def run_rows(backend: Backend, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Return the outputs for all rows of the inputs. Rows that do not fill a batch of a fixed size are left out.

    Raises ValueError when the inputs have different numbers of rows, or too few for one batch.
    """
    names = [spec.name for spec in backend.outputs]
    rows = [spec for spec in backend.inputs if inputs[spec.name].ndim]
    counts = {len(inputs[spec.name]) for spec in rows}
    if len(counts) > 1:
        raise ValueError(f"expected as many rows of each input; found {sorted(counts)}")
    count = counts.pop() if counts else 1
    sizes = {_batch_size(spec) for spec in rows} - {None}
    if len(sizes) > 1:
        raise ValueError(f"expected one size of batches; the model's inputs have {sorted(map(str, sizes))}")
    fixed = sizes.pop() if sizes else None
    size = fixed or min(count, _BATCH_ROWS)
    batches = []
    for start in range(0, count - size + 1 if fixed else count, size):
        batch = {name: _slice(spec, inputs[name], start, size) for name, spec in _by_name(backend).items()}
        batches.append([np.atleast_1d(output) for output in backend.run(batch, names)])
    if not batches:
        raise ValueError(f"expected at least {size} rows, one batch of the model; found {count}")
    return {name: np.concatenate(parts) for name, parts in zip(names, zip(*batches))}


def _files(path: str) -> ModelFiles:
    if os.path.isdir(path):
        return files_in(path)
    model_format = _FORMATS.get(os.path.splitext(path)[1])
    if model_format is None:
        raise ValueError(f"{path}: expected a version's directory or a file {', '.join(_FORMATS)}")
    return ModelFiles(model_format, path, golden=None, reference=None, classes={})


def _of_any_length(spec: TensorSpec) -> TensorSpec:
    """The input with any number of rows; without dimensions, one value or one for each row."""
    if not spec.shape:
        return spec._replace(any_rank=True)
    return spec._replace(shape=(-1, *spec.shape[1:]), symbols=())


def _batch_size(spec: TensorSpec) -> int | None:
    """The number of rows that the model takes at once; None for any."""
    if not spec.shape:
        return None if spec.any_rank else 1
    return None if spec.shape[0] == -1 else spec.shape[0]


def _slice(spec: TensorSpec, values: Array, start: int, size: int) -> Array:
    if not values.ndim:
        return values
    return values[start : start + size] if spec.shape or spec.any_rank else values[start : start + 1].reshape(())


def _by_name(backend: Backend) -> dict[str, TensorSpec]:
    return {spec.name: spec for spec in backend.inputs}


if __name__ == "__main__":
    sys.exit(main())
