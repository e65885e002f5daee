# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Command line: ``python -m edgeml_server.tools.measure VERSION_DIRECTORY… [--samples SAMPLES --outputs DIRECTORY]``.

Runs versions as the server does, golden test included, and says what that costs. Standard output is a line of JSON for
each:

    {"runtime": "onnxruntime 1.32.0", "architecture": "aarch64", "load_seconds": 0.03, "memory_bytes": 1220608,
     "inputs": [{"name": "image", "datatype": "FP32", "shape": [-1, 1, 8, 8]}], "outputs": […],
     "latency_seconds": 0.0002, "batch_spread": {"probabilities": 1.2e-07}}               exit code 0
    {"error": "…"}                                                                        exit code 1

SAMPLES is a ``.npz`` file with an array for each input, one row for each sample. Their outputs go to ``0.npz``,
``1.npz`` … in the directory. ``memory_bytes`` is by how much the process grows, at its peak, from before the model is
loaded until a batch has run; ``latency_seconds`` the median time of one sample; ``batch_spread`` by how much an output
of a sample differs, at most, between a batch and the sample alone. An output whose sizes vary, as the number of boxes
does, is filled up with NaN, and ``shapes`` has the shape of each sample's. ``--reference FILE`` also writes a drift
reference of the samples, where one of their inputs or outputs has numbers.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from edgeml_device._common.arguments import ArgumentParser
from edgeml_device._common.errors import EdgemlError
from edgeml_device._release.arrays import write_archive
from edgeml_device._release.release import WHOLE

from edgeml_server.common.errors import ModelError
from edgeml_server.common.memory import trim_heap
from edgeml_server.common.tensors import Array, TensorSpec
from edgeml_server.models.backend import Backend, BackendOptions, backend_for
from edgeml_server.models.loading import ModelFiles, load

from .answers import Answers, answers_of, run_each
from .drift_reference import NothingComparableError, reference_of, varying_rows
from .rows import BATCH_ROWS, run_batches, run_rows
from .smoke import files_in

_LATENCY_SECONDS = 0.25
_LATENCY_RUNS_MAX = 200
_ALONE_ROWS = 16
_STATUS = "/proc/self/status"


def main() -> int:
    """Measure versions. Exit code: 0, 1 if one has the reason as ``error``, 2 for a wrong command line."""
    parser = ArgumentParser(prog="edgeml_server.tools.measure", description="Measure versions of models.")
    parser.add_argument(
        "directories", nargs="+", metavar="VERSION_DIRECTORY", help="a version of the store, with its version.json"
    )
    parser.add_argument("--samples", metavar="FILE", help=".npz with an array for each input")
    parser.add_argument("--outputs", metavar="DIRECTORY", help="where the samples' outputs are written")
    parser.add_argument("--reference", metavar="FILE", help="where a drift reference of the samples is written")
    arguments = parser.parse_args()
    # What a runtime's native code prints must not come between: the result alone goes to the real standard output.
    result_file = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    failed = False
    with result_file:
        for number, directory in enumerate(arguments.directories):
            result: dict[str, Any]
            try:
                outputs = os.path.join(arguments.outputs, f"{number}.npz") if arguments.outputs else None
                result = measure(files_in(directory)[WHOLE], arguments.samples, outputs, arguments.reference)
            except Exception as error:
                known = isinstance(error, (ModelError, EdgemlError, ValueError))
                result = {"error": str(error) if known else repr(error)}
                failed = True
            print(json.dumps(result), file=result_file, flush=True)
    return 1 if failed else 0


def measure(
    files: ModelFiles, samples_path: str | None, outputs_path: str | None, reference_path: str | None
) -> dict[str, Any]:
    """Load the model, run the samples, and return what was measured. Raises ModelError, ValueError and OSError."""
    backend_for(files.format)
    samples = _read(samples_path) if samples_path else {}
    trim_heap()
    before = _reset_peak()
    loaded = load(files, BackendOptions(threads=1))
    backend = loaded.backend
    result: dict[str, Any] = {
        "runtime": backend.runtime,
        "architecture": platform.machine(),
        "load_seconds": loaded.seconds,
        "inputs": [_described(spec) for spec in backend.inputs],
        "outputs": [_described(spec) for spec in backend.outputs],
        "metadata": dict(backend.metadata),
    }
    if samples:
        _check_names(backend, samples)
        run_batches(backend, _head(samples, BATCH_ROWS), filled=True)
    result["memory_bytes"] = max(0, _status("VmHWM") - before)
    if samples:
        result["latency_seconds"] = _latency_seconds(backend, samples)
        answers = answers_of(backend, samples)
        result["shapes"] = answers.shapes
        result["batch_spread"] = _batch_spread(backend, samples, answers)
        if outputs_path:
            _write(outputs_path, answers.outputs)
        if reference_path:
            with suppress(NothingComparableError):
                rows = answers.rows()
                varying = varying_rows([*backend.inputs, *backend.outputs], {**samples, **rows})
                reference = reference_of(samples, rows, varying)
                with open(reference_path, "w", encoding="utf-8") as file:
                    json.dump(reference, file)
    backend.close()
    return result


def _described(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape), "any_rank": spec.any_rank}


def _check_names(backend: Backend, samples: Mapping[str, Array]) -> None:
    wanted = sorted(spec.name for spec in backend.inputs)
    if wanted != sorted(samples):
        raise ValueError(f"samples: expected the inputs {', '.join(wanted)}; found {', '.join(sorted(samples))}")


def _head(samples: Mapping[str, Array], rows: int) -> dict[str, Array]:
    return {name: values[:rows] if values.ndim else values for name, values in samples.items()}


def _latency_seconds(backend: Backend, samples: Mapping[str, Array]) -> float:
    """The median time of one sample; of one batch where the model takes no fewer."""
    rows = max((len(values) for values in samples.values() if values.ndim), default=1)
    seconds: list[float] = []
    began = time.monotonic()
    while len(seconds) < 3 or (time.monotonic() - began < _LATENCY_SECONDS and len(seconds) < _LATENCY_RUNS_MAX):
        row = len(seconds) % rows
        one = {name: values[row : row + 1] if values.ndim else values for name, values in samples.items()}
        started = time.perf_counter()
        run_batches(backend, one, filled=True)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def _batch_spread(backend: Backend, samples: Mapping[str, Array], answers: Answers) -> dict[str, float]:
    if not answers.shapes:
        alone = run_rows(backend, _head(samples, _ALONE_ROWS), batch_rows=1, filled=True)
        return {name: _spread(values, answers.outputs[name]) for name, values in alone.items()}
    again = run_each(backend, samples, min(_ALONE_ROWS, len(answers.parts)))
    return {
        name: max(_spread(part[name], before[name]) for part, before in zip(again, answers.parts))
        for name in answers.outputs
    }


def _spread(alone: Array, together: Array) -> float:
    """The largest difference; of what is no number, whether there is one (0 or 1)."""
    together = together[: len(alone)]
    if alone.shape != together.shape or alone.dtype.kind not in "fiu":
        return float(alone.shape != together.shape or bool((alone != together).any()))
    with np.errstate(invalid="ignore"):
        difference = np.abs(alone.astype(np.float64) - together.astype(np.float64))
    return float(np.nan_to_num(difference, nan=0.0, posinf=0.0).max(initial=0.0))


def _read(path: str) -> dict[str, Array]:
    """The arrays of a file; texts as objects, as the server has them."""
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    return {name: values.astype(object) if values.dtype.kind == "U" else values for name, values in arrays.items()}


def _write(path: str, outputs: Mapping[str, Array]) -> None:
    write_archive(path, {name: _storable(values) for name, values in outputs.items()}, np.lib.format.write_array)


def _storable(values: Array) -> Array:
    return values.astype(np.str_) if values.dtype == object else values


def _reset_peak() -> int:
    """Have the peak of the memory counted from here on, if the kernel lets us; return what is used now, in bytes."""
    try:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
            file.write("5")
    except OSError:
        # Without it the peak of the imports counts: it is lower than what they leave, but for some KB.
        pass
    return _status("VmRSS")


def _status(name: str) -> int:
    """A number of this process's status, in bytes."""
    with open(_STATUS, encoding="ascii") as file:
        lines: Sequence[str] = [line for line in file if line.startswith(f"{name}:")]
    return int(lines[0].split()[1]) * 1024


if __name__ == "__main__":
    sys.exit(main())
