# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a device is, read from the machine that runs the tests and from what an installed service looks like."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest

from ansible_collections.edgeml.fleet.plugins.module_utils._device.facts import (
    SITE_PACKAGES,
    architecture,
    device_facts,
    installed_runtimes,
)


def install(root: Path, name: str, version: str) -> None:
    """Lay out a package's metadata as pip does, in a virtual environment below ``root``."""
    metadata = root / "venv-cp311-0123/lib/python3.11/site-packages" / f"{name}-{version}.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def pattern(root: Path) -> str:
    """Where the packages of the environments below ``root`` are, as on a device below /opt/edgeml."""
    return SITE_PACKAGES.replace("/opt/edgeml", str(root))


def test_the_facts_are_this_machines(tmp_path: Path) -> None:
    facts = device_facts(pattern(tmp_path))
    assert facts["architecture"] == platform.machine() == os.uname().machine
    assert facts["python_version"] == platform.python_version()
    assert facts["cpu_count"] == os.cpu_count()
    assert facts["runtimes"] == {}
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < facts["memory_available_bytes"] <= facts["memory_bytes"] <= physical
    assert "\0" not in facts["board"]


def test_a_runtime_may_come_in_another_package(tmp_path: Path) -> None:
    install(tmp_path, "onnxruntime_gpu", "1.31.1")
    install(tmp_path, "onnxruntime_qnn", "2.7.0")
    assert installed_runtimes(pattern(tmp_path)) == {"onnxruntime": "1.31.1"}


@pytest.mark.parametrize(
    ("machine", "wide", "expected"),
    [
        ("aarch64", True, "aarch64"),
        ("aarch64", False, "armv7l"),
        ("armv8l", False, "armv7l"),
        ("armv7l", False, "armv7l"),
        ("armv6l", False, "armv6l"),
        ("x86_64", True, "x86_64"),
    ],
)
def test_a_32_bit_system_on_a_64_bit_kernel_is_a_32_bit_device(machine: str, wide: bool, expected: str) -> None:
    assert architecture(machine, wide) == expected


def test_no_runtime_without_a_service(tmp_path: Path) -> None:
    assert installed_runtimes(pattern(tmp_path / "nowhere")) == {}
    assert installed_runtimes(pattern(tmp_path)) == {}


def test_the_runtimes_of_the_service_are_found(tmp_path: Path) -> None:
    install(tmp_path, "onnxruntime", "1.27.0")
    install(tmp_path, "ai_edge_litert", "2.0.1")
    install(tmp_path, "numpy", "2.3.0")
    assert installed_runtimes(pattern(tmp_path)) == {"onnxruntime": "1.27.0", "ai-edge-litert": "2.0.1"}


def test_the_runtimes_of_the_controller_are_not_the_devices(tmp_path: Path) -> None:
    (tmp_path / "venv-cp311-0123/lib/python3.11/site-packages").mkdir(parents=True)
    assert installed_runtimes(pattern(tmp_path)) == {}
