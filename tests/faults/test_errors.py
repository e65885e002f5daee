# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every system call fails, as it can fail: the error is clear, nothing is lost, and the old version stays active."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from . import strace, subject
from .checks import must_be_readable, recover_and_check
from .scenarios import SCENARIOS, SWAP, Scenario, clone
from .strace import Call
from .sweep import Results, sweep

# Of the calls that change something, those that need room on the disk.
_NEED_ROOM = frozenset(
    "copy_file_range fallocate fdatasync fsync ftruncate link linkat mkdir mkdirat pwrite64 rename renameat renameat2 "
    "sendfile symlink symlinkat write".split()
)
_READ = frozenset("getdents64 pread64 read readlink readlinkat".split())
_TAKE_A_PATH = frozenset(
    "access faccessat faccessat2 link linkat lstat mkdir mkdirat newfstatat open openat readlink readlinkat rename "
    "renameat renameat2 rmdir stat statx symlink symlinkat unlink unlinkat".split()
)


def _can_fail(call: Call, error: str) -> bool:
    """Whether the kernel can answer ``call`` with ``error``."""
    if error == "ENOSPC":
        return call.name in _NEED_ROOM or "O_CREAT" in call.arguments
    if error == "EROFS":
        return call.changes
    by_path = call.name in _TAKE_A_PATH and "AT_EMPTY_PATH" not in call.arguments
    return by_path or (error == "EIO" and (call.changes or call.name in _READ))


@dataclass(frozen=True)
class Fault:
    """``call`` returns ``error``; with ``lasts``, so does every later call that can."""

    call: Call
    error: str
    lasts: bool

    def __str__(self) -> str:
        return f"{self.error} {'from' if self.lasts else 'at'} {self.call}"


def faults(calls: list[Call], all_points: bool) -> Iterator[Fault]:
    """Every call that can fail fails: alone, and with all that come after it. Else the changing ones, alone."""
    for error in ("ENOSPC", "EIO", "EACCES", "EROFS"):
        for call in calls:
            if _can_fail(call, error) and (call.changes or all_points):
                yield from (Fault(call, error, lasts) for lasts in ((False, True) if all_points else (False,)))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every scenario with --all-points, else one."""
    chosen = SCENARIOS if metafunc.config.getoption("--all-points") else (SWAP,)
    metafunc.parametrize("scenario", chosen, ids=lambda scenario: scenario.name)


def test_every_call_fails(scenario: Scenario, memory: Path, all_points: bool, results: Results) -> None:
    prepared, device, log = memory / "prepared", memory / "device", memory / "log"
    scenario.prepare(prepared)
    journal = subject.store_of(prepared).history(subject.MODEL)

    def act() -> None:
        scenario.action(device)

    def fresh() -> None:
        shutil.rmtree(device, ignore_errors=True)
        clone(prepared, device)

    def failed(fault: Fault) -> str:
        fresh()
        if fault.lasts:
            names = [call.name for call in listed if _can_fail(call, fault.error)]
            options = strace.fail_from(fault.call, listed, fault.error, names)
        else:
            options = strace.fail_at(fault.call, fault.error)
        ended = strace.run(act, log, options)
        assert not ended.killed
        assert ended.unexpected is None, ended.unexpected
        must_be_readable(device, scenario)
        active = recover_and_check(device, scenario, journal, done=ended.error is None)
        if ended.error is None:
            return "tolerated"
        assert os.strerror(getattr(errno, fault.error)) in ended.error, f"not clear: {ended.error}"
        assert str(device) in ended.error, f"does not say where: {ended.error}"
        assert active == "old", f"reported as failed, and done: {ended.error}"
        return f"{fault.error} told"

    fresh()
    act()
    fresh()
    listed = strace.calls(act, log)
    sweep(results, f"failed: {scenario.name}", faults(listed, all_points), failed)
