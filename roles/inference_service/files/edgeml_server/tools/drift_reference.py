# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Command line: ``python -m edgeml_server.tools.drift_reference MODEL ROWS > reference.json``.

Makes a release's drift reference: runs the model on ROWS, which should be many (thousands) and typical of what is to
come, and notes how its inputs and outputs are distributed. MODEL is a version's directory in a store, or a model's file
(``.onnx``, ``.tflite``) before there is a release. ROWS is JSON with ``inputs`` as in a request or a probe set.

The rows go through the model in batches of its own size. An input that the model declares without dimensions has one
value for each row, or a single one for all. An input whose first dimension is not that of the rows, such as the state
of a recurrent layer, is given once, in the size that the model declares. Texts have no statistics, but the model's
outputs for them do.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from edgeml_device._common.arguments import ArgumentParser
from edgeml_device._common.errors import EdgemlError
from edgeml_device._release.release import WHOLE

from edgeml_server.common.errors import RequestError
from edgeml_server.common.tensors import Array, TensorSpec
from edgeml_server.models.backend import BackendOptions
from edgeml_server.models.inference import parse_inputs
from edgeml_server.models.loading import ModelFiles, load
from edgeml_server.observe.reference import SCHEMA, SERIES_MAX, Series

from .rows import given_once, run_rows
from .smoke import files_in

_BINS = 10
_CLASSES_MAX = 1000
# So many numbers of a row are watched one by one; of more, statistics of the row.
_COLUMNS_MAX = 16
# By how much the scores of a row may sum to something else than 1.
_SUM_SLACK = 0.05
_FORMATS = {".onnx": "onnx", ".tflite": "tflite"}


def main() -> int:
    """Print the reference. Exit code: 0, or 1 with the reason on standard error."""
    parser = ArgumentParser(prog="edgeml_server.tools.drift_reference", description="Make a drift reference.")
    parser.add_argument("model", metavar="MODEL", help="a version's directory in a store, or a model's file")
    parser.add_argument("rows", metavar="ROWS", help="JSON with the inputs, many rows of them")
    parser.add_argument("--part", default=WHOLE, metavar="NAME", help="the part of a pipeline")
    arguments = parser.parse_args()
    try:
        backend = load(_files(arguments.model, arguments.part), BackendOptions(threads=1)).backend
        with open(arguments.rows, "rb") as file:
            inputs = parse_inputs([_of_any_length(spec) for spec in backend.inputs], json.load(file)["inputs"])
        outputs = run_rows(backend, inputs)
        once = given_once(backend, inputs)
        # One value says nothing of how live ones are distributed.
        rows = {name: inputs[name] for name in inputs if name not in once}
        varying = varying_rows([*backend.inputs, *backend.outputs], {**inputs, **outputs})
        print(json.dumps(reference_of(rows, outputs, varying)))
    except (RequestError, EdgemlError, OSError, ValueError, KeyError, TypeError) as error:
        print(f"edgeml_server.tools.drift_reference: {error!r}", file=sys.stderr)
        return 1
    return 0


class _Chosen(NamedTuple):
    """A series: its name, the tensor, the statistic of it, and whether its values have an order."""

    name: str
    tensor: str
    statistic: str | int
    ordered: bool


class NothingComparableError(ValueError):
    """No input and no output has numbers, as of a model that turns texts into texts: devices see no drift of it."""


def reference_of(
    inputs: Mapping[str, Array], outputs: Mapping[str, Array], varying: Collection[str] = ()
) -> dict[str, Any]:
    """The reference document of these rows. Of scores of classes that is the class and its score, of a few other
    numbers each, of many their mean and spread. ``varying`` tensors have rows of other sizes in other requests.

    Raises NothingComparableError.
    """
    outputs, inputs = (
        {
            name: values
            for name, values in tensors.items()
            if values.dtype != object and values.ndim and values.size and np.isfinite(values).any()
        }
        for tensors in (outputs, inputs)
    )
    chosen: list[_Chosen] = []
    left = SERIES_MAX
    # Of very many inputs, the last ones have no series.
    for place, (name, values) in enumerate([*outputs.items(), *inputs.items()]):
        of_each = left // (len(outputs) + len(inputs) - place)
        found = _series_of(name, values, most=max(of_each, 1), is_output=name in outputs, varies=name in varying)
        chosen += found[:left]
        left = SERIES_MAX - len(chosen)
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
        raise NothingComparableError("expected inputs or outputs with numbers in several rows; found none")
    return {"schema": SCHEMA, "series": series}


def varying_rows(specs: Iterable[TensorSpec], found: Mapping[str, Array]) -> set[str]:
    """The tensors whose rows have no declared size, or another one than was ``found``: exporters err, too."""
    return {
        spec.name
        for spec in specs
        if not spec.shape
        or -1 in spec.shape[1:]
        or (spec.name in found and found[spec.name][:1].size != math.prod(spec.shape[1:]))
    }


def _series_of(name: str, values: Array, *, most: int, is_output: bool, varies: bool) -> list[_Chosen]:
    """What is watched of a tensor: ``most`` series, or the statistics of its rows."""
    size = values[0].size
    if size == 1:
        return [_Chosen(name, name, 0, True)]
    is_table = values.ndim == 2
    if is_output and is_table and size <= _CLASSES_MAX and _are_shares(values):
        return [_Chosen(f"{name}_argmax", name, "argmax", False), _Chosen(f"{name}_maximum", name, "maximum", True)]
    if is_table and size <= min(_COLUMNS_MAX, most) and not varies:
        return [_Chosen(f"{name}_{place}", name, place, True) for place in range(size)]
    found = [_Chosen(f"{name}_mean", name, "mean", True), _Chosen(f"{name}_deviation", name, "deviation", True)]
    if is_output and is_table and values.dtype.kind == "f" and size <= _CLASSES_MAX:
        # They may be scores before they are made shares.
        found.append(_Chosen(f"{name}_argmax", name, "argmax", False))
    return found


def _are_shares(values: Array) -> bool:
    """Whether the numbers of each row are scores of classes: from 0 to 1, and 1 together."""
    if values.dtype.kind != "f":
        return False
    rows = values[np.isfinite(values).all(axis=1)].astype(np.float64)
    in_range = (rows >= -_SUM_SLACK) & (rows <= 1 + _SUM_SLACK)
    return bool(len(rows) and in_range.all() and (np.abs(rows.sum(axis=1) - 1) <= _SUM_SLACK).all())


def _files(path: str, part: str) -> ModelFiles:
    if os.path.isdir(path):
        parts = files_in(path)
        if part not in parts:
            raise ValueError(f"--part: expected one of {', '.join(parts)}; found {part!r}")
        return parts[part]
    model_format = _FORMATS.get(os.path.splitext(path)[1])
    if model_format is None:
        raise ValueError(f"{path}: expected a version's directory or a file {', '.join(_FORMATS)}")
    return ModelFiles(model_format, path)


def _of_any_length(spec: TensorSpec) -> TensorSpec:
    """The input with any number of rows; without dimensions, one value or one for each row."""
    if not spec.shape:
        return spec._replace(any_rank=True)
    return spec._replace(shape=(-1, *spec.shape[1:]), symbols=())


if __name__ == "__main__":
    sys.exit(main())
