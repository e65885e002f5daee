# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a model file to something that answers: loaded, tested against its golden file, warmed up."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from .backend import Backend, BackendOptions, backend_for
from .golden import check_golden, read_golden, zero_inputs
from .memory import trim_heap
from .tensors import Array


@dataclass(frozen=True)
class LoadedModel:
    """A model that passed its test, the inputs it was tried with, and the time that this took.

    Without a golden file the inputs are zeros; ``warm_up_error`` says why they did not fit, if they did not.
    """

    backend: Backend
    inputs: Mapping[str, Array]
    seconds: float
    warm_up_error: str | None = None


def load(model_format: str, path: str, golden_path: str | None, options: BackendOptions) -> LoadedModel:
    """Load the model file at ``path`` and run it on its golden inputs, or, without any, once on zeros.

    The first run is slow in most runtimes: no client is to wait for it. Raises ModelError.
    """
    runtime = backend_for(model_format)
    started = time.monotonic()
    backend = runtime(path, options)
    warm_up_error = None
    try:
        if golden_path is not None:
            golden = read_golden(backend, golden_path)
            check_golden(backend, golden)
            inputs = golden.inputs
        else:
            inputs = zero_inputs(backend)
            warm_up_error = _warm_up(backend, inputs)
    except Exception:
        backend.close()
        trim_heap()
        raise
    return LoadedModel(backend, inputs, time.monotonic() - started, warm_up_error)


def _warm_up(backend: Backend, inputs: Mapping[str, Array]) -> str | None:
    try:
        backend.run(inputs, [spec.name for spec in backend.outputs])
    except Exception as error:
        return str(error)
    return None
