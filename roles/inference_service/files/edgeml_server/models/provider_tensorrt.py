# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""NVIDIA's graphics processors, by TensorRT. Not run yet: none was at hand.

An engine fits one processor, one TensorRT and one power mode: the ONNX file is what is rolled out, and each device
makes its own of it.
"""

from __future__ import annotations

import os
from typing import Any

import onnxruntime
from edgeml_device._device.accelerator import read_accelerator

from .provider import Provider


class TensorRt(Provider):
    """What TensorRT leaves over, CUDA computes."""

    name = "tensorrt"
    execution_provider = "TensorrtExecutionProvider"
    makes_engine = True

    def attach(self, settings: Any) -> list[Any]:
        return self._providers({})

    def make_engine(self, path: str, engine: str, settings: Any) -> None:
        # It has options of its own for what others take from the session's:
        # https://onnxruntime.ai/docs/execution-providers/TensorRT-ExecutionProvider.html#configurations
        directory, name = os.path.split(engine)
        made = {
            "trt_dump_ep_context_model": "1",
            "trt_ep_context_file_path": name,
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": directory,
        }
        onnxruntime.InferenceSession(path, settings, providers=self._providers(made))

    def conditions(self) -> str:
        return read_accelerator().words

    def _providers(self, options: dict[str, str]) -> list[Any]:
        self.require()
        return [(self.execution_provider, options), "CUDAExecutionProvider", "CPUExecutionProvider"]


PROVIDER = TensorRt()
