# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The inference server as a unit of a service manager that runs here."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from links import PYTHON_PATH, REPOSITORY
from user_manager import UserManager

if TYPE_CHECKING:
    from server_process import Device

UNIT = "edgeml-inference.service"
WATCHDOG_SECONDS = 60
TEMPLATE = REPOSITORY / "roles" / "inference_service" / "templates" / "runners" / "native.service"
# They hide the tests' own files, or need more rights than a container has.
WITHOUT = ("ProtectHome", "PrivateTmp", "ProtectKernelLogs", "ProtectKernelTunables")


class ServerUnit:
    """The unit, which serves by the configuration ``server.json`` in ``directory``, and has its log there."""

    def __init__(self, manager: UserManager, directory: Path) -> None:
        self._manager = manager
        self._directory = directory

    def install(self, installation: str, python_path: str = str(PYTHON_PATH)) -> None:
        """Write the unit's file, with the sandbox of the role's. ``installation`` is what an upgrade changes in it."""
        same = f"--config {self._directory}/server.json --definition {self._manager.path(UNIT)}"
        run = f"{sys.executable} -m edgeml_server"
        self._manager.write(
            UNIT,
            f"""# {installation}
[Service]
Type=notify
Environment=PYTHONPATH={python_path}
ExecStart={run} {same}
ExecReload={run}.tools.reload {same} --watchdog-seconds {WATCHDOG_SECONDS} $MAINPID
StandardError=append:{self._directory}/log
Restart=always
RestartSec=100ms
TimeoutStartSec=240
WatchdogSec={WATCHDOG_SECONDS}
OOMPolicy=continue
ReadWritePaths={self._directory}
{_sandbox()}
""",
        )

    def call(self, verb: str) -> int:
        """Start, stop, reload or restart it. Returns the exit code of that."""
        return self._manager.run(verb, UNIT).returncode

    def shown(self, name: str) -> str:
        """What systemd says of it."""
        return self._manager.shown(UNIT, name)

    def wait_for(self, **properties: str) -> None:
        """Wait until systemd says this of it."""
        self._manager.wait_for(UNIT, **properties)

    @property
    def main(self) -> int:
        """Its main process."""
        return int(self.shown("MainPID"))

    @property
    def port(self) -> int:
        """Where its newest process listens, by its log."""
        log = (self._directory / "log").read_text()
        listening = [line for line in log.splitlines() if "info listening" in line][-1]
        return int(dict(part.split("=", 1) for part in listening.split()[2:])["port"])


@contextmanager
def running_unit(device: Device, directory: Path) -> Iterator[ServerUnit]:
    """A unit that serves what the device has, with a service manager of its own; the device knows its port."""
    device.configure()
    with UserManager(directory) as manager:
        unit = ServerUnit(manager, directory)
        unit.install("first")
        assert unit.call("start") == 0
        device.port = unit.port
        yield unit
        unit.call("stop")


def _sandbox() -> str:
    text = TEMPLATE.read_text().replace("{{ service.umask }}", "0027")
    lines = text[text.index("UMask=") : text.index("[Install]")].splitlines()
    return "\n".join(line for line in lines if not line.startswith(WITHOUT))
