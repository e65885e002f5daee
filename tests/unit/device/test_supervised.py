# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The program of Supervisor: it recovers before a start, says that a server runs, and counts what ends as a crash."""

from __future__ import annotations

import json
import os
import pwd
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from edgeml_device._device.facts import boot_id
from links import PYTHON_PATH

USER = pwd.getpwuid(os.getuid()).pw_name
PROGRAM = "import sys; from edgeml_device._device.supervised import main; sys.exit(main(sys.argv[1:]))"
# A server that is ready, shows what the file says of it, and ends as it is told.
SERVER = """
import json, os, socket, sys, time
sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
sender.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
while not json.load(open(sys.argv[1]))["ready"]:
    time.sleep(0.01)
print("ready", flush=True)
if sys.argv[2] == "waits":
    time.sleep(600)
sys.exit(int(sys.argv[2]))
"""
RECOVERED = "recover --before-start"
CRASHED = "crashed exit-code"


class Program:
    """The program in a directory of its own, and what it asks of the device's command."""

    def __init__(self, directory: Path) -> None:
        self.running = directory / "running.json"
        self._calls = directory / "calls"
        self._calls.touch()
        edgeml = directory / "edgeml"
        edgeml.write_text(f'#!/bin/sh\necho "$@" $SERVICE_RESULT >>{self._calls}\n')
        edgeml.chmod(0o755)
        places = {"socket": "run/notify.sock", "log-directory": "log", "running": "running.json", "edgeml": "edgeml"}
        self._options = [f"--{name}={directory / place}" for name, place in places.items()]

    def start(self, end: str) -> subprocess.Popen[str]:
        """Start it, with a server that ends like that."""
        server = [sys.executable, "-c", SERVER, str(self.running), end]
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, f"--user={USER}", *self._options, "--", *server],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(PYTHON_PATH)},
        )

    def run(self, end: str) -> int:
        """Run it to its end. Returns its exit code."""
        with self.start(end) as process:
            assert process.communicate() == ("ready\n", "")
            return process.returncode

    @property
    def calls(self) -> list[str]:
        """What it asked of the device's command, in this order."""
        return self._calls.read_text().splitlines()


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """A program that has not run yet."""
    return Program(tmp_path)


def test_a_server_that_ends_well_is_no_crash_and_leaves_nothing(program: Program, tmp_path: Path) -> None:
    assert program.run("0") == 0
    assert program.calls == [RECOVERED]
    assert not program.running.exists()
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("run", "log")] == [0o750, 0o750]


def test_a_server_that_fails_is_counted(program: Program) -> None:
    assert program.run("3") == 3
    assert program.calls == [RECOVERED, CRASHED]
    assert not program.running.exists()


@pytest.mark.parametrize(
    ("left", "counted"),
    [
        ({"pid": 1, "ready": True, "boot_id": boot_id()}, [CRASHED]),
        ({"pid": 1, "ready": True, "boot_id": "another"}, []),
        ({}, []),
    ],
    ids=["this boot", "a boot before", "damaged"],
)
def test_a_run_that_could_not_say_that_it_ended_is_a_crash_unless_the_device_started_since(
    program: Program, left: dict[str, object], counted: list[str]
) -> None:
    program.running.write_text(json.dumps(left))
    assert program.run("0") == 0
    assert program.calls == [*counted, RECOVERED]


def test_a_service_that_is_stopped_did_not_crash(program: Program) -> None:
    with program.start("waits") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert json.loads(program.running.read_text()) == {"pid": process.pid, "ready": True, "boot_id": boot_id()}
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 128 + signal.SIGTERM
    assert program.calls == [RECOVERED]
    assert not program.running.exists()
