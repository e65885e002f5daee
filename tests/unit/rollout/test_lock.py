# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lock that a run holds until it ends, however it ends."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from links import PYTHON_PATH

from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout import lock
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.lock import LockedError, take

HOST = re.escape(socket.gethostname())


def start() -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "600"])


def test_a_second_run_is_told_who_is_at_work(tmp_path: Path) -> None:
    path = str(tmp_path / "ledger" / "lock")
    with start() as first, start() as second:
        take(path, first.pid, "digits-1.1.0-1")
        with pytest.raises(LockedError, match=rf"at work since 2.*: digits-1.1.0-1 \(process {first.pid} on {HOST}\)"):
            take(path, second.pid, "reconcile")
        take(path, first.pid, "digits-1.1.0-1")
        for process in (first, second):
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_end_of_a_run_gives_the_lock_back(tmp_path: Path, number: signal.Signals) -> None:
    path = str(tmp_path / "lock")
    with start() as first:
        take(path, first.pid, "first")
        first.send_signal(number)
        first.wait()
    with start() as second:
        deadline = time.monotonic() + 60
        while True:
            try:
                take(path, second.pid, "second")
                break
            except LockedError:
                assert time.monotonic() < deadline
                time.sleep(0.02)
        second.kill()


def test_a_run_that_has_ended_already_leaves_no_lock(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    with start() as first:
        first.kill()
    take(path, first.pid, "first")
    deadline = time.monotonic() + 60
    while True:
        try:
            take(path, os.getpid(), "second")
            break
        except LockedError:
            assert time.monotonic() < deadline
            time.sleep(0.02)


CONTAINED = """
import os, sys
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.lock import LockedError, take
try:
    take(sys.argv[1], os.getpid(), "rollout")
    print(os.getpid(), "holds", flush=True)
    sys.stdin.read()
except LockedError as error:
    print(os.getpid(), "refused", error, flush=True)
"""


def test_a_run_of_the_same_number_in_another_container_is_another_one(tmp_path: Path) -> None:
    """As jobs of AWX are: each has process numbers of its own, and both have the directory of the ledger."""
    command = ["unshare", "--pid", "--fork", sys.executable, "-c", CONTAINED, str(tmp_path / "lock")]
    env = {**os.environ, "PYTHONPATH": str(PYTHON_PATH)}
    with subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "1 holds\n"
        second = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        assert second.stdout.startswith("1 refused "), second
        assert f"rollout (process 1 on {socket.gethostname()})" in second.stdout
        first.communicate()


HOLDER = """
import fcntl, sys
file = open(sys.argv[1], "r+")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("content", ["", "no JSON", "[]"])
def test_a_holder_that_left_no_note_is_still_a_holder(tmp_path: Path, content: str) -> None:
    path = tmp_path / "lock"
    path.write_text(content)
    command = [sys.executable, "-I", "-S", "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(LockedError) as refused:
            take(str(path), os.getpid(), "second")
        holder.communicate()
    assert str(refused.value) == (
        f"{path}: another run is at work since an unknown time: unknown (process unknown). Wait for its end, or end "
        "that process"
    )
    assert path.read_text() == content


class Ended(BaseException):
    """In place of the end of the process beside the run."""


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The process beside the run is this one: what it closes is noted, and its end is an exception."""
    ranges: list[tuple[int, int]] = []

    def end(code: int) -> None:
        raise Ended(code)

    monkeypatch.setattr(os, "fork", lambda: 0)
    monkeypatch.setattr(os, "setsid", lambda: None)
    monkeypatch.setattr(os, "closerange", lambda first, last: ranges.append((first, last)))
    monkeypatch.setattr(os, "_exit", end)
    return ranges


def is_free(path: Path) -> bool:
    with open(path, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


@pytest.mark.parametrize("kernel", ["with pidfd", "without pidfd"])
def test_the_process_beside_the_run_keeps_the_lock_alone_and_ends_with_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed: list[tuple[int, int]], kernel: str
) -> None:
    path = tmp_path / "lock"
    monkeypatch.setattr(lock, "POLL_SECONDS", 0.01)
    if kernel == "without pidfd":
        monkeypatch.delattr(os, "pidfd_open")
    seen: list[bool] = []
    with subprocess.Popen(["sleep", "600"]) as run:

        def end_the_run() -> None:
            while not closed[1:]:
                time.sleep(0.01)
            time.sleep(0.05)
            seen.append(is_free(path))
            run.kill()
            run.wait()

        other = threading.Thread(target=end_the_run)
        other.start()
        with pytest.raises(Ended) as ended:
            take(str(path), run.pid, "first")
        other.join()
    assert ended.value.args == (0,)
    assert seen == [False]
    assert is_free(path)
    # All but one descriptor, which is the lock's.
    (first, kept), (after, last) = closed
    assert (first, after, last) == (0, kept + 1, os.sysconf("SC_OPEN_MAX"))


def test_the_process_beside_a_run_that_has_ended_ends_at_once(tmp_path: Path, closed: list[tuple[int, int]]) -> None:
    with start() as run:
        run.kill()
    with pytest.raises(Ended):
        take(str(tmp_path / "lock"), run.pid, "first")
    assert is_free(tmp_path / "lock")
    assert len(closed) == 2
