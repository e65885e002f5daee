# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The service of a device as a program of a Supervisor of its own, by the role's file, the set-up's program and the
device's command."""

from __future__ import annotations

import contextlib
import grp
import json
import os
import pwd
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx_models
import pytest
from container_device import COMMAND, render
from links import PYTHON_PATH
from server_process import GUARD_SECONDS, Device

from ansible_collections.edgeml.fleet.plugins.plugin_utils._setup import plan
from ansible_collections.edgeml.fleet.plugins.plugin_utils._setup.device import programs
from ansible_collections.edgeml.fleet.plugins.plugin_utils._setup.device.program import Setup
from ansible_collections.edgeml.fleet.plugins.plugin_utils._setup.device.programs import Supervisor

UNIT = "edgeml-inference.service"
WATCHDOG_SECONDS = 10
USER = pwd.getpwuid(os.getuid()).pw_name
GROUP = grp.getgrgid(os.getgid()).gr_name
# The device's command, with this clone's code and a device's paths that are below a directory.
EDGEML = """#!{python}
import runpy, sys
sys.path.insert(0, {python_path!r})
from edgeml_device._device import listener, supervisor
supervisor.SOCKETS, supervisor.WORK = ({directory!r} + "/supervisor.sock",), {directory!r} + "/work"
listener.WORK, listener.COMMAND = supervisor.WORK, {directory!r} + "/edgeml"
listener.Listener.__init__.__defaults__ = (supervisor.WORK, listener.COMMAND)
if sys.argv[1] in ("activate", "crashed", "fetch", "recover", "watch"):
    sys.argv += ["--store", {directory!r} + "/store"]
    sys.argv += [] if sys.argv[1] == "fetch" else ["--server", {directory!r} + "/run/server.sock"]
runpy.run_path({command!r}, run_name="__main__")
"""
SUPERVISOR = """
[unix_http_server]
file={directory}/supervisor.sock
[supervisord]
nodaemon=true
user={user}
logfile={directory}/supervisord.log
pidfile={directory}/supervisord.pid
childlogdir={directory}
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[include]
files={directory}/conf.d/*.conf
"""


class Supervised:
    """A device whose service manager is a Supervisor of its own."""

    def __init__(self, device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
        self.device = device
        self.directory = device.directory
        for name in ("conf.d", "run", "log", "setup"):
            (self.directory / name).mkdir()
        device.socket_path = str(self.directory / "run" / "server.sock")
        (self.directory / "edgeml").write_text(
            EDGEML.format(
                python=sys.executable,
                python_path=str(PYTHON_PATH),
                directory=str(self.directory),
                command=str(COMMAND),
            )
        )
        (self.directory / "edgeml").chmod(0o755)
        (self.directory / "supervisord.conf").write_text(SUPERVISOR.format(directory=self.directory, user=USER))
        monkeypatch.setattr(programs, "SOCKETS", (str(self.directory / "supervisor.sock"),))
        monkeypatch.setattr(Supervisor, "definitions", (str(self.directory / "conf.d"),))

    def definition(self, arguments: str = "", python: str = sys.executable) -> str:
        """The role's file. ``arguments`` are further ones of the server."""
        directory = str(self.directory)
        service = {
            "user": USER,
            "command": [python, "-m", "edgeml_server", "--config", f"{directory}/server.json", *arguments.split()],
            "environment": {"PYTHONPATH": str(PYTHON_PATH)},
            "open_files_max": 1024,
            "umask": "0027",
            "watchdog_seconds": WATCHDOG_SECONDS,
            "start_seconds": 240,
            "stop_seconds": 30,
        }
        text = render("supervisor.conf", __inference_service_description=service, __inference_service_app="app-0")
        options = f"--socket {directory}/run/notify.sock --running {directory}/running.json --edgeml {directory}/edgeml"
        for before, after in {
            "edgeml supervised": f"edgeml supervised {options} --log-directory {directory}/log",
            "/usr/local/bin/edgeml": f"{directory}/edgeml",
            "/opt/edgeml/app-0/edgeml": f"{directory}/edgeml",
            "startsecs=5": "startsecs=1",
            "startretries=10": "startretries=1",
            "/var/lib/edgeml/store": f"{directory}/store",
            "/var/lib/edgeml": directory,
            "/var/log": directory,
        }.items():
            assert before in text, before
            text = text.replace(before, after)
        return text

    def set_up(self, definition: str, check_mode: bool = False) -> list[str]:
        """Have the set-up's program do what the role asks for. Returns the subjects of the changes."""
        file = {
            "path": str(self.directory / "conf.d" / "edgeml-inference.conf"),
            "content": definition,
            "owner": USER,
            "group": GROUP,
            "mode": "0644",
            "present": True,
            "keep": False,
            "secret": False,
            "validate": [],
            "restarts": UNIT,
            "reloads": "",
        }
        service = {"enabled": True, "running": True, "outside_containers": False, "handover_lock": ""}
        names = ("packages", "users", "directories", "commands", "outdated")
        part = {
            **dict.fromkeys(names, ()),
            "files": [file],
            "units": [{"name": UNIT, **service}, {"name": "edgeml-listener", **service}],
        }
        supervisor = Supervisor(str(self.directory / "running.json"))
        setup = Setup(check_mode, str(self.directory / "setup" / "pending"), supervisor)
        setup.run(plan.make_request({}, [part], None, check_mode))
        return [change["subject"] for change in setup.changes]

    def edgeml(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the device's command."""
        command = [str(self.directory / "edgeml"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=GUARD_SECONDS)

    @property
    def crashes(self) -> int:
        """How often the service crashed in the trial that is on."""
        trial = self.device.store.state("plus").trial
        assert trial is not None
        return trial.crashes

    @property
    def relay(self) -> int:
        """The process that Supervisor has started."""
        return int(json.loads((self.directory / "running.json").read_text())["pid"])

    @property
    def server(self) -> int:
        """The server's process."""
        return int(Path(f"/proc/{self.relay}/task/{self.relay}/children").read_text().split()[0])

    def is_ready(self) -> bool:
        """Whether the process that Supervisor has started says that its server answers."""
        with contextlib.suppress(OSError, ValueError):
            return bool(json.loads((self.directory / "running.json").read_text())["ready"])
        return False

    def wait_restarted(self, before: int) -> None:
        """Wait until another process serves than the one before, and know its port."""
        wait_for(lambda: self.is_ready() and self.relay != before)
        log = (self.directory / "edgeml-inference.log").read_text()
        listening = [line for line in log.splitlines() if "info listening" in line][-1]
        self.device.port = int(dict(part.split("=", 1) for part in listening.split()[2:])["port"])


def wait_for(condition: Callable[[], Any]) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + GUARD_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@contextlib.contextmanager
def running_supervised(directory: Path) -> Iterator[Supervised]:
    """A device that serves ``plus`` 1.0.0."""
    device = Device(directory)
    with pytest.MonkeyPatch.context() as patch:
        found = Supervised(device, patch)
        device.publish("plus", "1.0.0", onnx_models.plus(1))
        device.configure()
        configuration = str(directory / "supervisord.conf")
        supervisord = [sys.executable, "-m", "supervisor.supervisord", "--configuration", configuration]
        with subprocess.Popen(supervisord, stdout=subprocess.DEVNULL) as process:
            try:
                wait_for((directory / "supervisor.sock").exists)
                assert found.set_up(found.definition())[1:] == [UNIT, "edgeml-listener"] * 2
                found.wait_restarted(0)
                yield found
            finally:
                process.terminate()
                process.wait(GUARD_SECONDS)
