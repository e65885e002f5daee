# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The event listener of Supervisor: its protocol, and what it does at which event."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from subprocess import PIPE

import pytest
from edgeml_device._common.errors import ServerError
from edgeml_device._common.process import Process
from edgeml_device._device import supervisor, systemd
from edgeml_device._device.listener import FETCH_SECONDS, WATCH_SECONDS, Listener, listen, parse_fields
from edgeml_device._device.service_manager import NoServiceManager, service_manager

COMMAND = "/usr/local/bin/edgeml"


class Commands:
    """What a listener ran. The command ends when `ended` says so."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.processes: list[Process] = []

    def __call__(self, command: Sequence[str]) -> Process:
        assert command[0] == COMMAND
        self.ran.append(" ".join(command[1:]))
        self.processes.append(Process(["cat"], stdin=PIPE))
        if "--service-failed" in command:
            self.end()
        return self.processes[-1]

    def end(self) -> None:
        """Have all that runs end."""
        for process in self.processes:
            process.communicate()

    def since(self) -> list[str]:
        """What ran since the last time."""
        found, self.ran = self.ran, []
        return found


def test_work_is_done_once_after_a_start_and_then_as_long_as_there_is_any(tmp_path: Path) -> None:
    commands = Commands()
    listener = Listener(commands, str(tmp_path))
    listener.event("TICK_5", {}, now=0)
    assert commands.since() == ["watch", "fetch"], "who knows what was going on before the start"
    listener.event("TICK_5", {}, now=WATCH_SECONDS)
    commands.end()
    listener.event("TICK_5", {}, now=2 * WATCH_SECONDS)
    assert commands.since() == [], "there is nothing to do"
    (tmp_path / "watch").touch()
    listener.event("TICK_5", {}, now=3 * WATCH_SECONDS)
    listener.event("TICK_5", {}, now=3 * WATCH_SECONDS + 5)
    assert commands.since() == ["watch"]
    listener.event("TICK_5", {}, now=5 * WATCH_SECONDS)
    assert commands.since() == [], "the last look is not over"
    commands.end()
    (tmp_path / "fetch").touch()
    listener.event("TICK_5", {}, now=FETCH_SECONDS + WATCH_SECONDS)
    assert commands.since() == ["watch", "fetch"]
    commands.end()


def test_a_service_that_was_given_up_is_rescued_and_no_other_program(tmp_path: Path) -> None:
    commands = Commands()
    listener = Listener(commands, str(tmp_path))
    listener.event("PROCESS_STATE_FATAL", {"processname": "cron"}, now=0)
    assert commands.since() == []
    listener.event("PROCESS_STATE_FATAL", {"processname": "edgeml-inference"}, now=0)
    assert commands.since() == ["watch --service-failed"]


def test_it_speaks_supervisors_protocol(tmp_path: Path) -> None:
    commands = Commands()
    payload = "processname:edgeml-inference groupname:edgeml-inference from_state:BACKOFF"
    header = (
        f"ver:3.0 server:supervisor serial:21 pool:l poolserial:10 eventname:PROCESS_STATE_FATAL len:{len(payload)}\n"
    )
    replies = io.StringIO()
    listen(io.StringIO(header + payload + header + payload), replies, Listener(commands, str(tmp_path)))
    assert replies.getvalue() == "READY\nRESULT 2\nOKREADY\nRESULT 2\nOKREADY\n"
    assert commands.since() == ["watch --service-failed"] * 2


def test_fields_are_read() -> None:
    assert parse_fields("when:1201063880 url:http://x") == {"when": "1201063880", "url": "http://x"}


def test_a_device_without_a_service_manager_needs_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemd, "systemd_runs", lambda: False)
    monkeypatch.setattr(supervisor, "SOCKETS", ())
    manager = service_manager()
    assert isinstance(manager, NoServiceManager)
    manager.start_watching()
    manager.stop_watching()
    manager.start_fetching()
    manager.stop_fetching()
    manager.rescue_service("edgeml-inference.service")
    assert not manager.start_unit("edgeml-inference.service"), "there is nobody who would"


def test_supervisor_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(supervisor, "SOCKETS", (str(tmp_path / "supervisor.sock"),))
    with pytest.raises(ServerError, match=r"Supervisor does not run here: no socket at .*supervisor\.sock"):
        supervisor.start_program("edgeml-inference.service")
    (tmp_path / "supervisor.sock").touch()
    with pytest.raises(ServerError, match=r"supervisor\.sock: supervisor\.startProcess: .*refused"):
        supervisor.start_program("edgeml-inference.service")
