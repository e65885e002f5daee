# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Energy and heat from a board's sysfs to the gate: the device's own command, the real server, real requests."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from controller import DIGITS
from device import Device
from releases import put, read_release

from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.checks import Check, Verdict
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.observations import observe_device
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.verdict import judge

REQUESTS = 25
FILES = {"class/hwmon/hwmon0/energy1_input": "0", "class/thermal/thermal_zone0/temp": "48000"}


class Board:
    """A device whose sysfs is a directory."""

    def __init__(self, device: Device, sysfs: Path) -> None:
        self.device, self._sysfs = device, sysfs
        for name, content in FILES.items():
            self.set(name, content)

    def set(self, name: str, content: str) -> None:
        path = self._sysfs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)

    def serve_requests(self, joules: float) -> None:
        """Have clients ask, and the counter of energy count as much for each request."""
        name = "class/hwmon/hwmon0/energy1_input"
        for _number in range(REQUESTS):
            assert self.device.ask("digits", name="image", datatype="FP32", shape=[1, 1, 8, 8], data=[0.0] * 64) == 200
        self.set(name, str(int((self._sysfs / name).read_text()) + int(REQUESTS * joules * 1e6)))

    def activate(self, version: str) -> None:
        put(self.device.store, read_release(DIGITS, "digits", version))
        done = self.device.edgeml("activate", "digits", version, "--min-ready-seconds", "0.1", "--trial-seconds", "0")
        assert done.returncode == 0, done

    def model(self) -> dict[str, Any]:
        said = json.loads(self.device.edgeml("status", "--json").stdout)
        (model,) = said["models"]
        found: dict[str, Any] = model
        return found


@pytest.fixture
def board(fleet: dict[str, Device], tmp_path: Path) -> Iterator[Board]:
    device = fleet["edge-s1"]
    board = Board(device, tmp_path / "sys")
    subprocess.run([*device.enter(), "mount", "--bind", str(tmp_path / "sys"), "/sys"], check=True)
    yield board
    subprocess.run([*device.enter(), "umount", "/sys"], check=True)


def test_a_version_that_takes_more_energy_and_heats_the_board_fails(board: Board) -> None:
    board.activate("1.0.0")
    board.serve_requests(joules=0.2)
    board.activate("1.1.0")
    board.serve_requests(joules=0.8)
    board.set("class/thermal/thermal_zone0/temp", "79000")
    model = board.model()
    assert {
        name: model["board"][name] for name in ("energy_joules", "requests", "temperature_celsius", "clock_ratio")
    } == {
        "energy_joules": pytest.approx(REQUESTS * 0.8),
        "requests": REQUESTS,
        "temperature_celsius": 79.0,
        "clock_ratio": None,
    }
    assert model["past"]["board"]["energy_joules"] == pytest.approx(REQUESTS * 0.2)
    assert model["past"]["board"]["requests"] == REQUESTS

    # Twenty such devices: one by itself is not certain.
    swap = {"changed": True, "version": "1.1.0", "live": "1.1.0"}
    wave = [observe_device(f"d{number}", "small", swap, {"model": model}) for number in range(20)]
    found = {item.check: item for item in judge(wave).findings}
    assert found[Check.ENERGY].estimate == pytest.approx(4.0)
    assert found[Check.TEMPERATURE].estimate == pytest.approx(31.0)
    assert {found[check].verdict for check in (Check.ENERGY, Check.TEMPERATURE)} == {Verdict.FAIL}
