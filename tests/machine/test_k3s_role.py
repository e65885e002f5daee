# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role k3s on a whole machine. There is no K3s to be had: what the role starts here in its place only waits."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from machine_controller import MachineController
from whole_machine import NAME, WholeMachine

STAND_IN = b"#!/bin/sh\nsystemd-notify --ready --pid=$$\nexec sleep infinity\n"
IMAGES = b"images"
# The files of a release by the machine's architecture: the binary and the images.
FILES = {
    "aarch64": ("k3s-arm64", "k3s-airgap-images-arm64.tar.zst"),
    "x86_64": ("k3s", "k3s-airgap-images-amd64.tar.zst"),
}
BINARY, UNIT = "/usr/local/bin/k3s", "k3s.service"
SHOW = "systemctl show --property=MainPID --value k3s.service"
STATE = f"ls -l {BINARY} /var/lib/rancher/k3s/agent/images /etc/rancher /etc/systemd/system/{UNIT} 2>/dev/null || true"


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def variables(machine: WholeMachine, tmp_path: Path) -> dict[str, Any]:
    """Those of the role, with a source in a directory of the test."""
    binary, images = FILES[machine.architecture]
    (tmp_path / binary).write_bytes(STAND_IN)
    (tmp_path / images).write_bytes(IMAGES)
    return {
        "k3s_version": "v1.37.1+k3s1",
        "k3s_source": str(tmp_path),
        "k3s_sha256": {binary: digest(STAND_IN), images: digest(IMAGES)},
        "k3s_token": "a secret of the cluster",
        "k3s_disk_min_megabytes": 1000,
    }


def test_it_installs_what_was_promised_and_nothing_else(
    machine: WholeMachine, controller: MachineController, variables: dict[str, Any], tmp_path: Path
) -> None:
    role = {"roles": [{"role": "edgeml.fleet.k3s"}]}
    binary, _images = FILES[machine.architecture]
    pristine = machine.shell(STATE).stdout

    refused = controller.play(role, code=2, **variables, k3s_memory_min_megabytes=8000)
    assert "needs 8000 MB of memory, but the device has" in refused.results("Refuse what cannot work")[NAME]["msg"]
    (tmp_path / binary).write_bytes(b"another")
    refused = controller.play(role, code=2, **variables)
    results = refused.results("Refuse files of another content")[NAME]["results"]
    (message,) = [result["msg"] for result in results if result.get("failed")]
    assert digest(STAND_IN) in message
    assert digest(b"another") in message
    (tmp_path / binary).write_bytes(STAND_IN)
    assert machine.shell(STATE).stdout == pristine

    def changed(*options: str) -> int:
        return controller.play(role, *options, **variables).stats[NAME]["changed"]

    assert changed("--check", "--diff") > 0
    assert machine.shell(STATE).stdout == pristine

    assert changed() > 0
    assert machine.shell(f"sha256sum {BINARY} | cut -d' ' -f1").stdout.strip() == digest(STAND_IN)
    assert machine.shell("sysctl -n vm.overcommit_memory kernel.panic").stdout.split() == ["1", "10"]
    assert "image-gc-high-threshold=100" in machine.shell("cat /etc/rancher/k3s/config.yaml").stdout
    assert machine.shell("stat --format=%a /etc/rancher/k3s/token /etc/rancher/k3s/config.yaml").stdout == "600\n600\n"
    # Without the option it ends with 0 whatever systemd ignores of the unit.
    machine.shell(f"systemd-analyze verify --recursive-errors=no {UNIT}")
    machine.shell(f"systemctl is-enabled {UNIT} && systemctl is-active {UNIT}")
    first = machine.shell(SHOW).stdout
    assert changed() == 0
    assert machine.shell(SHOW).stdout == first

    # A new binary takes the place of the one before, and runs.
    newer = STAND_IN + b"# newer\n"
    (tmp_path / binary).write_bytes(newer)
    variables["k3s_sha256"][binary] = digest(newer)
    assert changed() > 0
    assert machine.shell(SHOW).stdout != first
    machine.shell(f"systemctl disable --now {UNIT}")
