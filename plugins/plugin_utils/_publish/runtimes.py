# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The oldest runtime that can run a model: by what its file declares, and by trying those that are there."""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.edgeml.fleet.plugins.module_utils._release.onnx_check import (
    IR_VERSIONS,
    OPSETS,
    first_runtime,
)

from .model import Model

LITERT_MINIMUM = "1.2.0"


def declared_minimum(model: Model) -> tuple[str, str]:
    """The oldest runtime by the model's file, and why: ``("1.17.0", "opset 20")``."""
    if model.format == "tflite":
        return LITERT_MINIMUM, "the oldest that is tested"
    if model.entrypoint.path.endswith(".ort"):
        return min(IR_VERSIONS.values(), key=version_key), "an .ort file says nothing of it"
    import onnx

    proto: Any = onnx.load(model.entrypoint.location, load_external_data=False)
    opset = max((item.version for item in proto.opset_import if item.domain in ("", "ai.onnx")), default=1)
    by_ir, by_opset = _first(IR_VERSIONS, proto.ir_version), _first(OPSETS, opset)
    if version_key(by_ir) >= version_key(by_opset):
        return by_ir, f"IR version {proto.ir_version}"
    return by_opset, f"opset {opset}"


def _first(table: dict[int, str], number: int) -> str:
    return first_runtime(table, number) or f"above {max(table.values(), key=version_key)}"


def version_key(version: str) -> tuple[int, ...]:
    """What versions are ordered by."""
    numbers = [int(number) for number in re.findall(r"[0-9]+", version)[:4]]
    key = numbers + [0] * (4 - len(numbers))
    return (*key, 1 if version.startswith("above") else 0)
