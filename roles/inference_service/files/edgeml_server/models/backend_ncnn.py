# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""ncnn models, run on the CPU. The entrypoint is the graph (``.param``); its weights (``.bin``) are beside it.

ncnn knows no batch: a request's rows run one after the other. All numbers are 32-bit floats, for tensors and, with the
settings here, inside of the model: by default ncnn computes with 16 bits where the processor can, so that the same
model answers differently on different boards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import ncnn
import numpy as np
from edgeml_device._release.ncnn_file import read_ncnn, weights_of

from edgeml_server.common.errors import ModelError
from edgeml_server.common.tensors import Array, TensorSpec

from .backend import Backend, BackendOptions, RunError

_ROWS = "rows"
_REDUCED_PRECISION = (
    "use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_packed", "use_bf16_storage",
)  # fmt: skip


class NcnnBackend(Backend):
    """One network."""

    platform = "ncnn"
    runtime = f"ncnn {ncnn.__version__}"

    def __init__(self, path: str, options: BackendOptions) -> None:
        try:
            shapes = read_ncnn(path).inputs
        except ValueError as error:
            raise ModelError(f"{path}: expected the graph of an ncnn model: {error}") from error
        self._net = _load(path, options.threads)
        self.metadata: Mapping[str, str] = {}
        for name in self._net.input_names():
            if not shapes.get(name):
                raise ModelError(
                    f"{path}: input {name!r}: expected its size in the layer Input, such as 'Input {name} 0 1 {name} "
                    "0=224 1=224 2=3' (width, height, channels); found none, and ncnn checks none itself"
                )
        self.inputs = [self._spec(name, shapes[name]) for name in self._net.input_names()]
        self._output_names: list[str] = list(self._net.output_names())
        # The graph does not say the shapes of its outputs: a first run does.
        zeros = {spec.name: np.zeros(spec.shape[1:], np.float32) for spec in self.inputs}
        try:
            self._shapes = {
                name: values.shape for name, values in zip(self._output_names, self._row(zeros, self._output_names))
            }
        except RunError as error:
            raise ModelError(f"{path}: {self.runtime} cannot run it: {error}") from error
        self.outputs = [self._spec(name, self._shapes[name]) for name in self._output_names]

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        rows = len(next(iter(inputs.values())))
        results = [np.empty((rows, *self._shapes[name]), np.float32) for name in outputs]
        for row in range(rows):
            found = self._row({name: values[row] for name, values in inputs.items()}, outputs)
            for result, values in zip(results, found):
                result[row] = values
        return results

    def close(self) -> None:
        self._net.clear()

    def _row(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """Run one row. Raises RunError."""
        extractor = self._net.create_extractor()
        for name, values in inputs.items():
            # The copy has the distance between channels that ncnn counts on.
            code = extractor.input(name, ncnn.Mat(np.ascontiguousarray(values)).clone())
            if code != 0:
                raise RunError(f"ncnn refuses the input {name!r} with code {code}")
        results = []
        for name in outputs:
            code, found = extractor.extract(name)
            if code != 0:
                raise RunError(f"ncnn cannot compute {name!r}: code {code}")
            results.append(np.array(found))
        return results

    def _spec(self, name: str, shape: Sequence[int]) -> TensorSpec:
        return TensorSpec(name, "FP32", (-1, *shape), (_ROWS, *(None for _size in shape)))


def _load(path: str, threads: int) -> Any:
    net = ncnn.Net()
    net.opt.num_threads = threads
    for name in _REDUCED_PRECISION:
        # Not all versions have all.
        if hasattr(net.opt, name):
            setattr(net.opt, name, False)
    for read, file in ((net.load_param, path), (net.load_model, weights_of(path))):
        code = read(file)
        if code != 0:
            raise ModelError(
                f"{file}: {NcnnBackend.runtime} cannot load it: code {code}; its own message is in the log"
            )
    return net


BACKEND = NcnnBackend
