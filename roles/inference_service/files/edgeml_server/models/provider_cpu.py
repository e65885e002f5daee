# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The processor itself: ONNX Runtime's own kernels."""

from __future__ import annotations

from typing import Any

from .provider import Provider


class Cpu(Provider):
    """What every build of ONNX Runtime has."""

    name = "cpu"
    execution_provider = "CPUExecutionProvider"

    def attach(self, settings: Any) -> list[Any]:
        return [self.execution_provider]


PROVIDER = Cpu()
