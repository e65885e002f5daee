# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Profiles of device classes for tests: what a device says it measured, and what is made and signed of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.profiles import class_profile, write_profile
from ansible_collections.edgeml.fleet.plugins.plugin_utils._trust import keys

NOW = "2026-11-29T09:00:00Z"


def measured(**changes: Any) -> dict[str, Any]:
    """What a device says."""
    device = {
        "architecture": "aarch64",
        "memory_bytes": 2 << 30,
        "runtimes": {"onnxruntime": "1.20.1"},
        "board": "Raspberry Pi 4 Model B Rev 1.4",
        "emulated": False,
        **changes.pop("device", {}),
    }
    found = {
        "device": device,
        "model": "digits",
        "version": "1.0.0",
        "variant": "onnx-fp32",
        "load_seconds": 0.2,
        "resident_bytes": 60e6,
        "idle_watts": 2.0,
        "watts": 5.0,
        "celsius_before": 40.0,
        "celsius_max": 60.0,
        "burst": {"p50_seconds": 0.001, "p95_seconds": 0.002},
        "sustained": {"p50_seconds": 0.003, "p95_seconds": 0.004, "requests_per_second": 250.0},
        "joules": [0.010, 0.012, 0.014],
    }
    return {**found, **changes}


class ProfileDesk:
    """Who signs profiles, and keeps them in a model repository."""

    def __init__(self, directory: Path, repository: Path) -> None:
        self.key = keys.generate("controller")
        self.public = keys.public_path(keys.write(self.key, str(directory), None))
        self.repository = repository

    def keep(self, device_class: str, **changes: Any) -> Path:
        """Keep the profile of a class that one device measured; return its path."""
        return Path(
            write_profile(str(self.repository), class_profile(device_class, [measured(**changes)], NOW), self.key)
        )
