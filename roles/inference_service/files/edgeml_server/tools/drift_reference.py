# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Command line: ``python -m edgeml_server.tools.drift_reference VERSION_DIRECTORY ROWS > reference.json``.

Makes a release's drift reference: runs the model on ROWS, which should be many (thousands) and typical of what is to
come, and notes how its inputs and outputs are distributed. ROWS is JSON with ``inputs`` as in a request or a probe set.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from edgeml_device._common.errors import EdgemlError

from edgeml_server.common.errors import RequestError
from edgeml_server.common.tensors import Array
from edgeml_server.models.backend import Backend, BackendOptions
from edgeml_server.models.inference import parse_inputs
from edgeml_server.models.loading import load
from edgeml_server.observe.reference import SCHEMA, Series

from .smoke import files_in

_BATCH_ROWS = 32
_BINS = 10
_CLASSES_MAX = 1000


def main() -> int:
    """Print the reference. Exit code: 0, or 1 with the reason on standard error."""
    parser = argparse.ArgumentParser(prog="edgeml_server.tools.drift_reference", description="Make a drift reference.")
    parser.add_argument("directory", metavar="VERSION_DIRECTORY", help="a version of the store, with its version.json")
    parser.add_argument("rows", metavar="ROWS", help="JSON with the inputs, many rows of them")
    arguments = parser.parse_args()
    try:
        backend = load(files_in(arguments.directory), BackendOptions(threads=1)).backend
        with open(arguments.rows, "rb") as file:
            inputs = parse_inputs(backend.inputs, json.load(file)["inputs"])
        print(json.dumps(reference_of(inputs, _run(backend, inputs))))
    except (RequestError, EdgemlError, OSError, ValueError, KeyError, TypeError) as error:
        print(f"edgeml_server.tools.drift_reference: {error!r}", file=sys.stderr)
        return 1
    return 0


def reference_of(inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> dict[str, Any]:
    """The reference document of these rows: of each input its mean and spread, of scores the class and its score."""
    chosen: list[tuple[str, str, str | int, bool]] = []
    for name, values in [*inputs.items(), *outputs.items()]:
        size = values[0].size
        if values.dtype == object or not size:
            continue
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
        edges = np.unique(np.quantile(values.astype(np.float64), np.arange(1, _BINS) / _BINS)) if ordered else None
        counts = Series(
            name, tensor, statistic, edges, np.zeros(len(draft.counts) if edges is None else len(edges) + 1)
        )
        entry: dict[str, Any] = {"name": name, "tensor": tensor, "statistic": statistic}
        if edges is not None:
            entry["edges"] = edges.tolist()
        series.append({**entry, "counts": counts.histogram(values).tolist()})
    return {"schema": SCHEMA, "series": series}


def _run(backend: Backend, inputs: Mapping[str, Array]) -> dict[str, Array]:
    names = [spec.name for spec in backend.outputs]
    fixed = {spec.shape[0] for spec in backend.inputs if spec.shape and spec.shape[0] != -1}
    batch = fixed.pop() if fixed else _BATCH_ROWS
    count = min(len(values) for values in inputs.values())
    results = [
        backend.run({name: values[start : start + batch] for name, values in inputs.items()}, names)
        for start in range(0, count, batch)
    ]
    return {name: np.concatenate(parts) for name, parts in zip(names, zip(*results))}


if __name__ == "__main__":
    sys.exit(main())
