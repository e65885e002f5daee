# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Programs of a real Supervisor: what the set-up asks it for, and what it does."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.edgeml.fleet.plugins.module_utils._device import supervisor
from ansible_collections.edgeml.fleet.plugins.plugin_utils._setup.device import programs
from ansible_collections.edgeml.fleet.plugins.plugin_utils._setup.device.commands import SetupError
from ansible_collections.edgeml.fleet.plugins.plugin_utils._setup.device.programs import Supervisor

SERVICE, LISTENER = "edgeml-inference.service", "edgeml-listener"
GUARD_SECONDS = 60
CONFIGURATION = """
[unix_http_server]
file={directory}/supervisor.sock
[supervisord]
nodaemon=true
user=root
logfile={directory}/supervisord.log
pidfile={directory}/supervisord.pid
childlogdir={directory}
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[include]
files={directory}/conf.d/*.conf
"""
# Says, as the service does, that the process which Supervisor started is ready.
READY = 'echo {{\\"pid\\": $$, \\"ready\\": true}} >{directory}/running.json; exec sleep {seconds}'
ENDS = "echo no model can be read; exit 3"


class Device:
    """A Supervisor of its own, and the programs that it knows."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.running = directory / "running.json"
        self.supervisor = Supervisor(str(self.running))

    def define(self, name: str, script: str, autostart: bool = True) -> None:
        """Write the definition of a program; Supervisor does not read it yet."""
        text = f"[program:{name}]\ncommand=/bin/sh -c '{script}'\nautostart={str(autostart).lower()}\nstartsecs=0\n"
        more = f"autorestart=false\nredirect_stderr=true\nstdout_logfile={self.directory}/{name}.log\nstopsignal=KILL\n"
        (self.directory / "conf.d" / f"{name}.conf").write_text(text + more)

    def serve(self, seconds: int = 1000) -> None:
        """Define a service that becomes ready."""
        self.define("edgeml-inference", READY.format(directory=self.directory, seconds=seconds))

    def info(self, name: str) -> dict[str, Any]:
        """What Supervisor itself says of a program."""
        found: dict[str, Any] = self.supervisor._call("supervisor.getProcessInfo", name)
        return found


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "supervisord.conf").write_text(CONFIGURATION.format(directory=tmp_path))
    monkeypatch.setattr(programs, "SOCKETS", (str(tmp_path / "supervisor.sock"),))
    command = [sys.executable, "-m", "supervisor.supervisord", "--configuration", str(tmp_path / "supervisord.conf")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            wait_for((tmp_path / "supervisor.sock").exists)
            yield Device(tmp_path)
        finally:
            process.terminate()
            process.wait(GUARD_SECONDS)


def wait_for(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + GUARD_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_program_is_shown_as_systemd_shows_a_unit(device: Device) -> None:
    show = device.supervisor.show
    assert show(SERVICE) == {"ActiveState": "inactive", "UnitFileState": "", "NeedDaemonReload": "no"}
    device.serve()
    assert show(SERVICE)["UnitFileState"] == "", "Supervisor has not read it yet"
    device.supervisor.reload()
    assert show(SERVICE) == {"ActiveState": "active", "UnitFileState": "enabled", "NeedDaemonReload": "no"}
    device.supervisor._call("supervisor.stopProcess", "edgeml-inference")
    assert show(SERVICE) == {"ActiveState": "inactive", "UnitFileState": "enabled", "NeedDaemonReload": "no"}


def test_a_service_is_started_and_restarted_when_it_says_that_it_is_ready(device: Device) -> None:
    device.serve()
    device.supervisor.reload()
    device.supervisor.control("start", SERVICE, "active")
    first = device.info("edgeml-inference")["pid"]
    assert json.loads(device.running.read_text()) == {"pid": first, "ready": True}
    device.supervisor.control("start", SERVICE, "active")
    assert device.info("edgeml-inference")["pid"] == first, "what runs is left alone"

    # In the run that began it anew by another definition, it is not begun once more.
    device.supervisor.control("restart", SERVICE, "active")
    assert device.info("edgeml-inference")["pid"] == first
    later = Supervisor(str(device.running))
    later.control("restart", SERVICE, "active")
    assert device.info("edgeml-inference")["pid"] != first


def test_another_definition_is_taken_over_and_what_an_operator_stopped_stays_so(device: Device) -> None:
    device.serve()
    device.define(LISTENER, "exec sleep 1000")
    device.define("not-ours", "exec sleep 1000")
    device.supervisor.reload()
    assert device.supervisor._call("supervisor.getProcessInfo", "not-ours", allowed=(programs._BAD_NAME,)) is None
    device.supervisor.control("start", SERVICE, "active")
    device.supervisor._call("supervisor.stopProcess", LISTENER)
    before = device.info("edgeml-inference")["pid"]

    device.serve(seconds=2000)
    device.define(LISTENER, "exec sleep 2000")
    device.supervisor.reload()
    pid = device.info("edgeml-inference")["pid"]
    assert pid != before
    wait_for(lambda: b"2000" in Path(f"/proc/{pid}/cmdline").read_bytes())
    assert device.info(LISTENER)["statename"] == "STOPPED"

    (device.directory / "conf.d" / f"{LISTENER}.conf").unlink()
    device.supervisor.reload()
    assert device.supervisor.show(LISTENER)["UnitFileState"] == ""
    assert device.info("edgeml-inference")["pid"] == pid, "what did not change runs on"


def test_a_service_that_ends_is_told_with_the_end_of_its_log(device: Device) -> None:
    device.define("edgeml-inference", ENDS, autostart=False)
    device.supervisor.reload()
    with pytest.raises(
        SetupError, match=r"(?s)expected it to be ready, but Supervisor says EXITED.*no model can be read"
    ):
        device.supervisor.control("start", SERVICE, "inactive")
    # Of what another process has said, nothing counts.
    device.running.write_text(json.dumps({"pid": 1, "ready": True}))
    with pytest.raises(SetupError, match="EXITED"):
        device.supervisor.control("restart", SERVICE, "inactive")


def test_a_service_that_never_says_it_is_ready_is_told_in_time(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "READY_SECONDS", 0.5)
    device.define("edgeml-inference", "exec sleep 1000")
    device.supervisor.reload()
    for said in ("{", '{"pid": 1}', ""):
        device.running.write_text(said)
        with pytest.raises(SetupError, match="Supervisor says RUNNING"):
            device.supervisor.control("start", SERVICE, "active")


def test_what_supervisor_refuses_is_told_and_so_is_one_that_is_not_there(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SetupError, match=r"supervisor\.sock: supervisor\.startProcess edgeml-other: BAD_NAME"):
        device.supervisor.control("start", "edgeml-other.service", "inactive")
    monkeypatch.setattr(programs, "SOCKETS", ("/nowhere/supervisor.sock",))
    with pytest.raises(SetupError, match=r"Supervisor: expected its socket at one of /nowhere/supervisor\.sock"):
        device.supervisor.show(SERVICE)
    nobody = device.directory / "nobody.sock"
    nobody.touch()
    monkeypatch.setattr(programs, "SOCKETS", (str(nobody),))
    monkeypatch.setattr(programs, "LISTENS_SECONDS", 0)
    with pytest.raises(SetupError, match=r"nobody\.sock: supervisor\.getProcessInfo: .*refused"):
        device.supervisor.show(SERVICE)


def test_a_socket_that_is_left_over_hides_no_other_one(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    left, linked = device.directory / "left.sock", device.directory / "linked.sock"
    with socket.socket(socket.AF_UNIX) as ended:
        ended.bind(str(left))
    linked.symlink_to("supervisor.sock")
    for there in ((left, device.directory / "supervisor.sock"), (linked, left)):
        sockets = ("/nowhere/supervisor.sock", *map(str, there))
        monkeypatch.setattr(programs, "SOCKETS", sockets)
        monkeypatch.setattr(programs, "LISTENS_SECONDS", 0)
        assert device.supervisor.show(SERVICE)["ActiveState"] == "inactive"
        monkeypatch.setattr(supervisor, "SOCKETS", sockets)
        assert supervisor.supervisor_runs()
        assert supervisor.call("supervisor.getState")["statename"] == "RUNNING"


def test_a_supervisor_that_does_not_listen_yet_is_waited_for(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    begins = device.directory / "begins.sock"
    begins.touch()
    monkeypatch.setattr(programs, "SOCKETS", (str(begins),))
    real = device.directory / "real.sock"
    real.hardlink_to(device.directory / "supervisor.sock")
    timer = threading.Timer(0.5, real.replace, [begins])
    timer.start()
    assert device.supervisor.show(SERVICE)["ActiveState"] == "inactive"
    timer.join()


def test_nobody_takes_over_in_a_program(device: Device) -> None:
    assert device.supervisor.hand_over(SERVICE, "/run/lock") is False
    device.supervisor.enable(SERVICE)
