# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""systemd itself follows a handover: it knows the new main process, waits for it, and restarts it when it ends.

``make handovers`` does more of them, and has the watchdog end the last process.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import onnx_models
import pytest
from links import PYTHON_PATH
from load import OK, Load
from server_process import Device, plus_input
from server_unit import ServerUnit, running_unit
from user_manager import SYSTEMD

UPGRADES = int(os.environ.get("EDGEML_TEST_UPGRADES", "2"))
REQUEST = {"inputs": [plus_input([1, 2])]}
INFER = "/v2/models/plus/infer"

pytestmark = pytest.mark.skipif(not Path(SYSTEMD).exists(), reason="needs systemd's program")


@pytest.fixture
def unit(device: Device, tmp_path: Path) -> Iterator[ServerUnit]:
    """A unit that serves the device's model."""
    device.publish("plus", "1.0.0", onnx_models.plus(1))
    with running_unit(device, tmp_path) as unit:
        yield unit


def wait_restarted(unit: ServerUnit, device: Device, times: int) -> None:
    """Wait until systemd has restarted the unit so often, and it serves."""
    unit.wait_for(NRestarts=str(times), ActiveState="active")
    device.port = unit.port
    assert device.infer("plus", [1, 2]).status == OK


def test_upgrades_lose_no_request_and_systemd_follows(unit: ServerUnit, device: Device, tmp_path: Path) -> None:
    mains = [unit.main]
    with Load(tmp_path, device.port, INFER, REQUEST) as load:
        for number in range(UPGRADES):
            unit.install(f"upgrade {number}")
            assert unit.call("reload") == 0
            mains.append(unit.main)
        unit.install("broken", f"{device.hide('onnxruntime')}:{PYTHON_PATH}")
        assert unit.call("reload") == 1
        assert unit.main == mains[-1], "the one before serves on"
    assert len(set(mains)) == UPGRADES + 1
    assert {request.status for request in load.requests} == {OK}, f"of {len(load.requests)} requests"
    assert "status=1" in unit.shown("ExecReload")
    assert unit.shown("NRestarts") == "0"
    unit.install("mended")
    os.kill(unit.main, signal.SIGKILL)
    wait_restarted(unit, device, 1)
    if "EDGEML_TEST_UPGRADES" in os.environ:
        unit.install("watched")
        assert unit.call("reload") == 0
        os.kill(unit.main, signal.SIGSTOP)
        wait_restarted(unit, device, 2)
        print(f"{UPGRADES} upgrades, {len(load.requests)} requests, none failed")
