# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Qualcomm's neural processors (Hexagon), by the package onnxruntime-qnn beside onnxruntime.

On x86-64 the package has Qualcomm's emulator of that processor: slow, and with the same results.
"""

from __future__ import annotations

import functools
import os
from typing import Any

import onnxruntime
import onnxruntime_qnn

from edgeml_server.common.errors import ModelError

from .provider import Provider

# Of the emulator, which has no device to ask: QCS6490 has the processor v68; this one is a common v73 (SM8550).
# https://onnxruntime.ai/docs/execution-providers/QNN-ExecutionProvider.html#configuration-options
_EMULATED = {"soc_model": "43", "htp_arch": "73"}


class Qnn(Provider):
    """A plugin, which is registered once in a process."""

    name = "qnn"
    execution_provider = onnxruntime_qnn.get_ep_name()
    makes_engine = True

    def attach(self, settings: Any) -> list[Any]:
        options = {"backend_path": onnxruntime_qnn.get_qnn_htp_path()}
        if os.uname().machine == "x86_64":
            options.update(_EMULATED)
        settings.add_provider_for_devices(_devices()[:1], options)
        return []

    def conditions(self) -> str:
        device = _devices()[0].device
        metadata = dict(device.metadata)
        return f"onnxruntime-qnn {onnxruntime_qnn.__version__}, {metadata.get('Description') or device.device_id}"


@functools.cache
def _devices() -> list[Any]:
    name = onnxruntime_qnn.get_ep_name()
    try:
        onnxruntime.register_execution_provider_library(name, onnxruntime_qnn.get_library_path())
    except Exception as error:
        raise ModelError(f"execution_provider 'qnn': its library cannot be loaded: {error}") from error
    found = [device for device in onnxruntime.get_ep_devices() if device.ep_name == name]
    if not found:
        raise ModelError("execution_provider 'qnn': no Qualcomm neural processor was found. Choose cpu")
    return found


PROVIDER = Qnn()
