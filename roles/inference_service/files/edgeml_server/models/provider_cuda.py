# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""NVIDIA's graphics processors, by the package onnxruntime-gpu in the place of onnxruntime.

Not run yet: none was at hand.
"""

from __future__ import annotations

from typing import Any

from .provider import Provider


class Cuda(Provider):
    """The kernels of CUDA and cuDNN, which NVIDIA's packages bring."""

    name = "cuda"
    execution_provider = "CUDAExecutionProvider"

    def attach(self, settings: Any) -> list[Any]:
        self.require()
        return [self.execution_provider, "CPUExecutionProvider"]


PROVIDER = Cuda()
