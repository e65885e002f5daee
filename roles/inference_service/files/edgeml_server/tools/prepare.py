# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Command line: ``python -m edgeml_server.tools.prepare VERSION_DIRECTORY OUTPUT_DIRECTORY``: how does this device load
a version's model best?

Makes the forms that the runtime knows of, tests each with the golden inputs, and measures it beside the model as it
was published: the processor time of a load and of an inference (time on the wall depends on what else runs), and the
memory of its own that it takes. The first form is chosen that loads quicker and with which an inference takes no
longer: they come in the order of what a load has to do. An engine is chosen as soon as it passes its test: without it
each load would compile it. What the form needs is left in OUTPUT_DIRECTORY. Standard output is one line of JSON:

    {"settings": {…}, "files": ["model.onnx", …], "entrypoint": "model.onnx", "runtime": "onnxruntime 1.32.0",
     "load_cpu_seconds": 0.004, "memory_bytes": 3000000, "latency_ratio": 0.98, "published": {"load_cpu_seconds": …}}
    {"reason": "no other form loads quicker at the same speed", "runtime": …, "forms": […]}     exit code 0
    {"error": "… expected 52428800 bytes of memory; 1000000 are left (MemAvailable)"}           exit code 1
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from edgeml_device._common.arguments import ArgumentParser
from edgeml_device._common.errors import EdgemlError
from edgeml_device._release.release import WHOLE

from edgeml_server.common.errors import ModelError
from edgeml_server.common.memory import memory_headroom, trim_heap
from edgeml_server.common.tensors import Array
from edgeml_server.config import ConfigError, read_config
from edgeml_server.models.backend import Backend, BackendOptions, Form, backend_for
from edgeml_server.models.loading import LoadedModel, ModelFiles, load, options_for

from .smoke import files_in

LATENCY_RATIO_MAX = 1.05
# What is gained must be more than what the measurement is off.
LOAD_RATIO_MAX = 0.8
_RUNS_MIN, _RUNS_MAX, _SECONDS_MAX = 5, 50, 3.0
# While the optimised graph is saved, the model is in memory as read, as optimised, and as written.
_MEMORY_TIMES = 4


class Measured(NamedTuple):
    """A form that is loaded for as long as a block lasts: the processor time of its load, and the memory that it has to
    itself, with that of a run."""

    loaded: LoadedModel
    load_cpu_seconds: float
    memory_bytes: int

    def __enter__(self) -> Measured:
        return self

    def __exit__(self, *_error: object) -> None:
        self.loaded.backend.close()
        trim_heap()


def main() -> int:
    """Find the best form. Exit code: 0 if it was looked for, 1 if it could not be, 2 for a wrong command line."""
    parser = ArgumentParser(prog="edgeml_server.tools.prepare", description="Prepare a version's model.")
    parser.add_argument("directory", metavar="VERSION_DIRECTORY", help="a version of the store, with its version.json")
    parser.add_argument("output", metavar="OUTPUT_DIRECTORY", help="an empty directory for what is made")
    parser.add_argument("--bytes-max", type=int, default=1 << 40, metavar="N", help="the largest file that is made")
    parser.add_argument("--part", default=WHOLE, metavar="NAME", help="the part of a pipeline that is prepared")
    parser.add_argument("--config", metavar="FILE", help="the server's configuration: its threads and batches")
    arguments = parser.parse_args()
    # What a runtime's native code prints must not come between: the result alone goes to the real standard output.
    result_file = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    # A write beyond the limit is then an error like that of a full disk.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (arguments.bytes_max, arguments.bytes_max))
    result: dict[str, Any]
    try:
        options, rows = BackendOptions(threads=1), 1
        if arguments.config is not None:
            config = read_config(arguments.config)
            options = BackendOptions(config.threads, runs=config.inference_workers, provider=config.execution_provider)
            rows = config.batch_rows
        result = prepare(arguments.directory, arguments.output, options, rows, arguments.part)
    except Exception as error:
        result = {"error": str(error) if isinstance(error, (ModelError, EdgemlError, ConfigError)) else repr(error)}
    with result_file:
        print(json.dumps(result), file=result_file)
    return 1 if "error" in result else 0


def prepare(directory: str, output: str, options: BackendOptions, batch_rows: int, part: str = WHOLE) -> dict[str, Any]:
    """Return the best form of the version in ``directory``, of a pipeline that of a ``part``.

    ``batch_rows``: how many rows the server runs together.

    Raises ModelError, or ManifestError for a damaged version.json.
    """
    parts = files_in(directory)
    if part not in parts:
        raise ModelError(f"part: expected one of {', '.join(map(repr, parts))}; found {part!r}")
    files = parts[part]
    if files.golden is None:
        raise ModelError("no golden inputs: a form of the model could not be tested")
    _check_memory(directory)
    runtime = backend_for(files.format)
    result: dict[str, Any] = {"runtime": runtime.runtime_with(options)}
    tried: list[dict[str, Any]] = []
    # While a form is made, nothing else is loaded.
    for form in runtime.forms(files.model, output, options_for(files, options)):
        trim_heap()
        told: dict[str, Any] = {"settings": dict(form.settings)}
        tried.append(told)
        with _measure(files, options) as published:
            result["published"] = _described(published)
            try:
                with _measure_form(files, output, form, options, published) as found:
                    told.update(
                        _described(found), latency_ratio=_latency_ratio(found.loaded, published.loaded, batch_rows)
                    )
            except ModelError as error:
                told["error"] = str(error)
                continue
        loads_quicker = found.load_cpu_seconds <= LOAD_RATIO_MAX * published.load_cpu_seconds
        if form.engine or (loads_quicker and told["latency_ratio"] <= LATENCY_RATIO_MAX):
            made = sorted(os.listdir(output)) if form.entrypoint else []
            return {**result, **told, "files": made, "entrypoint": form.entrypoint}
    return {"reason": "no other form loads quicker at the same speed", **result, "forms": tried}


def _described(found: Measured) -> dict[str, Any]:
    return {"load_cpu_seconds": found.load_cpu_seconds, "memory_bytes": found.memory_bytes}


def _check_memory(directory: str) -> None:
    """Raise ModelError unless the files in ``directory`` can be in memory several times."""
    needed = _MEMORY_TIMES * sum(entry.stat().st_size for entry in os.scandir(directory) if entry.is_file())
    left = memory_headroom()
    if left.bytes < needed:
        raise ModelError(f"{directory}: expected {needed} bytes of memory; {left.bytes} are left ({left.limit})")


def _measure_form(files: ModelFiles, output: str, form: Form, options: BackendOptions, published: Measured) -> Measured:
    """Load and test a form. Raises ModelError when it is not the model that was published."""
    path = os.path.join(output, form.entrypoint) if form.entrypoint else files.model
    found = _measure(files._replace(model=path), options._replace(settings=form.settings))
    if _interface(found.loaded.backend, form) != _interface(published.loaded.backend, form):
        found.loaded.backend.close()
        raise ModelError(f"{path}: its inputs, outputs or metadata are not those that were published")
    return found


def _interface(backend: Backend, form: Form) -> object:
    """What clients see of a model. An engine says nothing of where it came from."""
    return list(backend.inputs), list(backend.outputs), {} if form.engine else dict(backend.metadata)


def _measure(files: ModelFiles, options: BackendOptions) -> Measured:
    started = time.process_time()
    backend_for(files.format)(files.model, options_for(files, options)).close()
    seconds = time.process_time() - started
    trim_heap()
    before = _own_memory_bytes()
    loaded = load(files, options)
    return Measured(loaded, seconds, max(0, _own_memory_bytes() - before))


def _own_memory_bytes() -> int:
    """Memory of this process that no file stands behind."""
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("RssAnon:"))


def _batch(loaded: LoadedModel, rows: int) -> list[Mapping[str, Array]]:
    """The first golden row, as often as the server runs rows together; nothing for a model without rows."""
    inputs = loaded.inputs or {}
    if rows == 1 or not all(spec.shape and spec.shape[0] == -1 for spec in loaded.backend.inputs):
        return []
    return [{name: np.repeat(values[:1], rows, axis=0) for name, values in inputs.items()}]


def _latency_ratio(candidate: LoadedModel, published: LoadedModel, batch_rows: int) -> float:
    """How much longer an inference takes, of the golden inputs or of as many rows as the server runs together."""
    inputs = published.inputs or {}
    batches = [inputs, *_batch(published, batch_rows)]
    return max(_latency_ratio_of(candidate.backend, published.backend, inputs) for inputs in batches)


def _latency_ratio_of(candidate: Backend, published: Backend, inputs: Mapping[str, Array]) -> float:
    """Of the same inputs the shortest of each in turns, because others use the processors, too."""
    outputs = [spec.name for spec in published.outputs]
    seconds: dict[Backend, list[float]] = {candidate: [], published: []}
    deadline = time.perf_counter() + _SECONDS_MAX
    while (done := len(seconds[published])) < _RUNS_MIN or (done < _RUNS_MAX and time.perf_counter() < deadline):
        for backend, measured in seconds.items():
            started = time.process_time()
            backend.run(inputs, outputs)
            measured.append(time.process_time() - started)
    return min(seconds[candidate]) / min(seconds[published])


if __name__ == "__main__":
    sys.exit(main())
