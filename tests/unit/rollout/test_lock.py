# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lock that a run holds until it ends, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.lock import LockedError, take


def start() -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "600"])


def test_a_second_run_is_told_who_is_at_work(tmp_path: Path) -> None:
    path = str(tmp_path / "ledger" / "lock")
    with start() as first, start() as second:
        take(path, first.pid, "digits-1.1.0-1")
        with pytest.raises(LockedError, match=rf"at work since 2.*: digits-1.1.0-1 \(process {first.pid}\)"):
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
