# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Intel's processors and graphics, by OpenVINO: the package onnxruntime-openvino in the place of onnxruntime.

It keeps no engine: what it saves of a model for the CPU, it cannot load again
(findings/openvino-engine-does-not-load.sh).
"""

from __future__ import annotations

from typing import Any

from .provider import Provider


class OpenVino(Provider):
    """On the CPU: whoever has Intel graphics finds out with ``device_type`` what they bring."""

    name = "openvino"
    execution_provider = "OpenVINOExecutionProvider"

    def attach(self, settings: Any) -> list[Any]:
        self.require()
        return [(self.execution_provider, {"device_type": "CPU"}), "CPUExecutionProvider"]


PROVIDER = OpenVino()
