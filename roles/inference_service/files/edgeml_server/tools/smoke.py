# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Command line: ``python -m edgeml_server.tools.smoke VERSION_DIRECTORY…``: would the server serve these versions?

Loads each model in this process, as the server does, so that a model that crashes, hangs or exhausts the memory
does not harm the server: the caller sets limits and sees the exit status. Standard output is a line of JSON for each:

    {"latency_seconds": 0.00021, "load_seconds": 0.034, "runtime": "onnxruntime 1.27.0"}    exit code 0
    {"error": "golden test: output 'sum' at [0, 0]: expected 11.0, found 2.0 …"}            exit code 1

``latency_seconds`` is the median of several runs on the golden inputs, of a pipeline the sum over its parts; ``null``
for a release without golden inputs, which is loaded and does not run.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Mapping
from typing import Any

from edgeml_device._common.arguments import ArgumentParser
from edgeml_device._common.errors import EdgemlError, ManifestError
from edgeml_device._release.manifest import parse_release

from edgeml_server.common.errors import ModelError
from edgeml_server.common.memory import trim_heap
from edgeml_server.common.tensors import Array
from edgeml_server.config import ConfigError, read_config
from edgeml_server.models.backend import BackendOptions
from edgeml_server.models.loading import LoadedModel, ModelFiles, load_parts, model_files

_RUNS = 5


def main() -> int:
    """Test versions. Exit code: 0 if the server could serve each, 1 if not, 2 for a wrong command line."""
    parser = ArgumentParser(prog="edgeml_server.tools.smoke", description="Test versions as the server does.")
    parser.add_argument(
        "directories", nargs="+", metavar="VERSION_DIRECTORY", help="a version of the store, with its version.json"
    )
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="threads that one inference uses (1)")
    parser.add_argument("--config", metavar="FILE", help="the server's configuration: what it computes on")
    arguments = parser.parse_args()
    if arguments.threads < 1:
        parser.error("--threads: expected at least 1")
    # What a runtime's native code prints must not come between: the result alone goes to the real standard output.
    result_file = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    failed = False
    with result_file:
        for directory in arguments.directories:
            result = _said(directory, arguments)
            failed = failed or "error" in result
            print(json.dumps(result), file=result_file, flush=True)
            trim_heap()
    return 1 if failed else 0


def _said(directory: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """What is said of a version."""
    try:
        options = BackendOptions(arguments.threads)
        if arguments.config:
            options = options._replace(provider=read_config(arguments.config).execution_provider)
        return smoke(directory, options)
    except Exception as error:
        return {"error": str(error) if isinstance(error, (ModelError, EdgemlError, ConfigError)) else repr(error)}


def smoke(directory: str, options: BackendOptions) -> dict[str, Any]:
    """Load and test the version in ``directory``. Raises ModelError, or ManifestError for a damaged version.json."""
    parts = list(load_parts(files_in(directory), options).values())
    latencies = [_latency_seconds(part, part.inputs) for part in parts if part.inputs is not None]
    return {
        "latency_seconds": sum(latencies) if latencies else None,
        "load_seconds": sum(part.seconds for part in parts),
        "runtime": parts[0].backend.runtime,
    }


def files_in(directory: str) -> dict[str, ModelFiles]:
    """The files of the version in ``directory``, by part. Raises ManifestError."""
    path = os.path.join(directory, "version.json")
    try:
        with open(path, "rb") as file:
            document = json.load(file)
        release = parse_release(document["release"])
        variant = next(item for item in release.variants if item.name == document["variant"])
    except (OSError, ValueError, KeyError, TypeError, StopIteration, RecursionError, ManifestError) as error:
        raise ManifestError(f"{path}: cannot be used: {error!r}") from error
    return model_files(directory, release, variant)


def _latency_seconds(loaded: LoadedModel, inputs: Mapping[str, Array]) -> float:
    outputs = [spec.name for spec in loaded.backend.outputs]
    seconds = []
    for _run in range(_RUNS):
        started = time.perf_counter()
        loaded.backend.run(inputs, outputs)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


if __name__ == "__main__":
    sys.exit(main())
