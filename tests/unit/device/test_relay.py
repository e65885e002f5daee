# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The relay between a server and its manager: what it passes on, and that it ends a server that makes no progress."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from edgeml_device._device.relay import NO_PROGRESS, Progress, parse_notification
from links import PYTHON_PATH

GUARD_SECONDS = 120
# Sends its arguments to the notification socket, one message each, and ends; at the argument `wait` it waits.
SERVER = """
import os, signal, socket, sys
sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
for message in sys.argv[1:]:
    if message == "wait":
        signal.pause()
    sender.sendto(message.encode(), os.environ["NOTIFY_SOCKET"])
sys.exit(7)
"""


def server(*messages: str) -> list[str]:
    return [sys.executable, "-c", SERVER, *messages]


@pytest.mark.parametrize(
    ("said", "passed_on"),
    [
        (b"READY=1\nSTATUS=serves\nMAINPID=1", [("READY", "1"), ("STATUS", "serves")]),
        (b"EXTEND_TIMEOUT_USEC=9", [("EXTEND_TIMEOUT_USEC", "9")]),
        (b"FDSTORE=1\nWATCHDOG=1", [("WATCHDOG", "1")]),
        (b"\xff\nREADY", [("READY", "")]),
        (b"", []),
    ],
)
def test_what_is_passed_on(said: bytes, passed_on: list[tuple[str, str]]) -> None:
    assert parse_notification(said) == passed_on


def test_the_deadline_follows_what_the_server_says() -> None:
    progress = Progress(start_seconds=180, watchdog_seconds=60, now=0)
    assert (progress.deadline, progress.waits_for) == (180, "the server to be ready")
    progress.hear([("EXTEND_TIMEOUT_USEC", "50000000")], now=100)
    assert progress.deadline == 180, "it was later already"
    progress.hear([("EXTEND_TIMEOUT_USEC", "300000000")], now=100)
    assert progress.deadline == 400
    progress.hear([("WATCHDOG", "1")], now=150)
    assert progress.deadline == 400, "it is not ready"
    progress.hear([("READY", "1")], now=200)
    assert (progress.deadline, progress.waits_for) == (260, "a sign of progress")
    progress.hear([("STATUS", "serves")], now=210)
    assert progress.deadline == 260
    progress.hear([("WATCHDOG_USEC", "90000000")], now=220)
    assert progress.deadline == 310, "a load may take longer"
    progress.hear([("WATCHDOG", "1")], now=230)
    assert progress.deadline == 320


def test_without_a_watchdog_a_server_may_be_silent() -> None:
    progress = Progress(start_seconds=1, watchdog_seconds=0, now=0)
    progress.hear([("READY", "1"), ("WATCHDOG_USEC", "5")], now=0)
    assert progress.deadline == float("inf")


def run(directory: Path, command: list[str], start_seconds: float, watchdog_seconds: float, **more: str) -> int:
    environment = {**os.environ, **more}
    if "NOTIFY_SOCKET" not in more:
        environment.pop("NOTIFY_SOCKET", None)
    arguments = [command, str(directory / "notify.sock"), environment, start_seconds, watchdog_seconds]
    program = (
        "import sys; from edgeml_device._device.relay import Relay\n"
        f"sys.exit(Relay(*{arguments[:2]!r}, __import__('os').environ, *{arguments[3:]!r}).run())"
    )
    command = [sys.executable, "-c", program]
    paths = {"PYTHONPATH": str(PYTHON_PATH)}
    return subprocess.run(command, env={**environment, **paths}, check=False, timeout=GUARD_SECONDS).returncode


def test_the_manager_hears_what_the_server_says_and_how_it_ends(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "manager.sock"))
        manager.settimeout(GUARD_SECONDS)
        address = str(tmp_path / "manager.sock")
        code = run(tmp_path, server("READY=1\nMAINPID=1", "MAINPID=1", "WATCHDOG=1"), 0, 0, NOTIFY_SOCKET=address)
        assert code == 7, "its manager has a time-out of its own"
        assert [manager.recv(4096) for _number in range(2)] == [b"READY=1", b"WATCHDOG=1"]


@pytest.mark.parametrize("messages", [("wait",), ("READY=1", "wait")], ids=["not-ready", "no-progress"])
def test_where_no_manager_listens_it_is_the_watchdog(tmp_path: Path, messages: tuple[str, ...]) -> None:
    start_seconds, watchdog_seconds = (GUARD_SECONDS, 0.05) if len(messages) > 1 else (0.05, GUARD_SECONDS)
    assert run(tmp_path, server(*messages), start_seconds, watchdog_seconds) == NO_PROGRESS


def test_a_server_that_ends_by_a_signal_ends_the_relay_as_a_shell_would_say(tmp_path: Path) -> None:
    assert run(tmp_path, ["sh", "-c", "kill -KILL $$"], GUARD_SECONDS, 0) == 128 + signal.SIGKILL


def test_signals_reach_the_server(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    os.mkfifo(ready)
    script = f"trap 'exit 3' TERM; echo >{ready}; while :; do sleep 0.05; done"
    command = [
        sys.executable,
        "-c",
        "import sys; from edgeml_device._device.relay import main; sys.exit(main(sys.argv[1:]))",
    ]
    relay = [*command, "--socket", str(tmp_path / "notify.sock"), "--", "sh", "-c", script]
    environment = {**os.environ, "PYTHONPATH": str(PYTHON_PATH)}
    with subprocess.Popen(relay, env=environment) as process:
        guard = threading.Timer(GUARD_SECONDS, process.kill)
        guard.start()
        ready.read_text()
        process.terminate()
        assert process.wait() == 3
        guard.cancel()
