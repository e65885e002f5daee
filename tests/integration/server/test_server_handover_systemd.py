# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""systemd itself follows a handover: it knows the new main process, waits for it, and restarts it when it ends.

``make handovers`` does more of them, and has the watchdog end the last process.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import onnx_models
import pytest
from links import PYTHON_PATH, REPOSITORY
from load import OK, Load
from server_process import Device, plus_input
from user_manager import SYSTEMD, UserManager

UPGRADES = int(os.environ.get("EDGEML_TEST_UPGRADES", "2"))
WATCHDOG_SECONDS = 20
UNIT = "edgeml-inference.service"
REQUEST = {"inputs": [plus_input([1, 2])]}
INFER = "/v2/models/plus/infer"

TEMPLATE = REPOSITORY / "roles" / "inference_service" / "templates" / UNIT
# They hide the tests' own files, or need more rights than a container has.
WITHOUT = ("ProtectHome", "PrivateTmp", "ProtectKernelLogs", "ProtectKernelTunables")


def sandbox() -> str:
    """The settings of the role's unit that confine its processes."""
    text = TEMPLATE.read_text()
    lines = text[text.index("UMask=") : text.index("[Install]")].splitlines()
    return "\n".join(line for line in lines if not line.startswith(WITHOUT))


pytestmark = pytest.mark.skipif(not Path(SYSTEMD).exists(), reason="needs systemd's program")


class Service:
    """The inference server as a unit. ``installation`` stands for what an upgrade changes in the unit's file."""

    def __init__(self, device: Device, manager: UserManager) -> None:
        self.device = device
        self.manager = manager

    def install(self, installation: str, python_path: str = str(PYTHON_PATH)) -> None:
        """Write the unit's file, with the sandbox of the role's."""
        same = f"--config {self.device.config_path} --definition {self.manager.path(UNIT)}"
        run = f"{sys.executable} -m edgeml_server"
        self.manager.write(
            UNIT,
            f"""# {installation}
[Service]
Type=notify
Environment=PYTHONPATH={python_path}
ExecStart={run} {same}
ExecReload={run}.tools.reload {same} --watchdog-seconds {WATCHDOG_SECONDS} $MAINPID
StandardError=append:{self.device.directory}/log
Restart=always
RestartSec=100ms
WatchdogSec={WATCHDOG_SECONDS}
OOMPolicy=continue
ReadWritePaths={self.device.directory}
{sandbox()}
""",
        )

    @property
    def main(self) -> int:
        """The main process."""
        return int(self.manager.property(UNIT, "MainPID"))

    def note_port(self) -> None:
        """Read from the log on which port the newest process listens."""
        log = (self.device.directory / "log").read_text()
        listening = [line for line in log.splitlines() if "info listening" in line][-1]
        self.device.port = int(dict(part.split("=", 1) for part in listening.split()[2:])["port"])

    def restarted(self, times: int) -> None:
        """Wait until systemd has restarted the unit so often, and it serves."""
        self.manager.wait_for(UNIT, NRestarts=str(times), ActiveState="active")
        self.note_port()
        assert self.device.infer("plus", [1, 2]).status == OK


@pytest.fixture
def service(device: Device, tmp_path: Path) -> Iterator[Service]:
    """The service, which runs."""
    device.publish("plus", "1.0.0", onnx_models.plus(1))
    with UserManager(tmp_path) as manager:
        service = Service(device, manager)
        device.configure()
        service.install("first")
        manager.call("start", UNIT)
        service.note_port()
        yield service
        manager.call("stop", UNIT)


def test_upgrades_lose_no_request_and_systemd_follows(service: Service, tmp_path: Path) -> None:
    mains = [service.main]
    with Load(tmp_path, service.device.port, INFER, REQUEST) as load:
        for number in range(UPGRADES):
            service.install(f"upgrade {number}")
            service.manager.call("reload", UNIT)
            mains.append(service.main)
        service.install("broken", f"{service.device.hide('onnxruntime')}:{PYTHON_PATH}")
        assert service.manager.run("reload", UNIT).returncode == 1
        assert service.main == mains[-1], "the one before serves on"
    assert len(set(mains)) == UPGRADES + 1
    assert {request.status for request in load.requests} == {OK}, f"of {len(load.requests)} requests"
    assert "status=1" in service.manager.property(UNIT, "ExecReload")
    assert service.manager.property(UNIT, "NRestarts") == "0"
    service.install("mended")
    os.kill(service.main, signal.SIGKILL)
    service.restarted(1)
    if "EDGEML_TEST_UPGRADES" in os.environ:
        service.install("watched")
        service.manager.call("reload", UNIT)
        os.kill(service.main, signal.SIGSTOP)
        service.restarted(2)
        print(f"{UPGRADES} upgrades, {len(load.requests)} requests, none failed")
