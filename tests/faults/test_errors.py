# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every system call fails, as it can fail: the error is clear, nothing is lost, and the old version stays active."""

from __future__ import annotations

import dataclasses
import errno
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from . import strace, subject
from .checks import Check, check_of
from .scenarios import SCENARIOS, SWAP, Scenario, clone
from .strace import Call
from .sweep import Results, sweep

ERRORS = ("ENOSPC", "EIO", "EACCES", "EROFS")
# Of the calls that change something, those that need room on the disk.
_NEED_ROOM = re.compile(
    "write|pwrite64|copy_file_range|sendfile|fallocate|ftruncate|fsync|fdatasync|mkdir|mkdirat|link|linkat|symlink|"
    "symlinkat|rename|renameat|renameat2"
)
_READ = re.compile("read|pread64|getdents64|readlink|readlinkat")
_TAKE_A_PATH = re.compile(
    "open|openat|stat|lstat|newfstatat|statx|access|faccessat|faccessat2|readlink|readlinkat|mkdir|mkdirat|link|linkat|"
    "symlink|symlinkat|rename|renameat|renameat2|rmdir|unlink|unlinkat"
)


def _can_fail(call: Call, error: str) -> bool:
    """Whether the kernel can answer ``call`` with ``error``."""
    if error == "ENOSPC":
        return _NEED_ROOM.fullmatch(call.name) is not None or "O_CREAT" in call.arguments
    if error == "EROFS":
        return call.changes
    by_path = _TAKE_A_PATH.fullmatch(call.name) is not None and "AT_EMPTY_PATH" not in call.arguments
    return by_path or (error == "EIO" and (call.changes or _READ.fullmatch(call.name) is not None))


@dataclass(frozen=True)
class Fault:
    """``call`` returns ``error``; with ``lasts``, so does every later call that can."""

    call: Call
    error: str
    lasts: bool

    def __str__(self) -> str:
        return f"{self.error} {'from' if self.lasts else 'at'} {self.call}"


def faults(calls: list[Call], device: Path, all_points: bool) -> Iterator[Fault]:
    """Every call about the device's files fails in each way that it can, and those that change something also together
    with all that come after them. Without --all-points: every call that changes something, each in one way, in turn."""
    for number, call in enumerate(calls):
        errors = [error for error in ERRORS if _can_fail(call, error)]
        if not errors or not call.concerns(device) or not (call.changes or all_points):
            continue
        for error in errors if all_points else [errors[number % len(errors)]]:
            yield Fault(call, error, lasts=False)
            if all_points and _can_last(call, error):
                yield Fault(call, error, lasts=True)


def _can_last(call: Call, error: str) -> bool:
    """Whether all calls of that name can fail: those that open or read are also about files beside the device's."""
    return _can_fail(call, error) and call.changes and not call.opens_to_change


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every scenario with --all-points, else one."""
    chosen = SCENARIOS if metafunc.config.getoption("--all-points") else (SWAP,)
    metafunc.parametrize("scenario", chosen, ids=lambda scenario: scenario.name)


def test_every_call_fails(scenario: Scenario, memory: Path, all_points: bool, results: Results) -> None:
    prepared, device, log = memory / "prepared", memory / "device", memory / "log"
    scenario.prepare(prepared)
    check = check_of(scenario, prepared)

    def act() -> None:
        scenario.action(device)

    def fresh() -> None:
        shutil.rmtree(device, ignore_errors=True)
        clone(prepared, device)

    def failed(fault: Fault) -> str:
        fresh()
        if fault.lasts:
            names = [call.name for call in listed if _can_last(call, fault.error)]
            options = strace.fail_from(fault.call, listed, fault.error, names)
        else:
            options = strace.fail_at(fault.call, fault.error)
        ended = strace.run(act, log, options)
        assert not ended.killed
        assert ended.unexpected is None, ended.unexpected
        if scenario.fallback is not None and subject.state_of(device).active == scenario.fallback:
            assert not fault.call.changes, "the active version could be read"
            fallen = dataclasses.replace(scenario, old=scenario.fallback, new=scenario.fallback)
            Check(fallen, check.state, check.journal).recovered(device)
            return f"{fault.error}: fell back"
        check.readable(device)
        active = check.recovered(device, done=ended.error is None)
        if ended.error is None:
            return "tolerated"
        assert os.strerror(getattr(errno, fault.error)) in ended.error, f"not clear: {ended.error}"
        assert str(device) in ended.error, f"does not say where: {ended.error}"
        if active == "old" or scenario.old == scenario.new:
            return f"{fault.error} told, as before"
        # Not put back: where nothing can be written any more, where the transition was itself a way back, and where
        # all was done and only the look at the result failed.
        stays = fault.lasts or not scenario.undone or not fault.call.changes
        assert stays, f"reported as failed, and done: {ended.error}"
        return f"{fault.error} told, done"

    fresh()
    act()
    fresh()
    listed = strace.calls(act, log)
    sweep(results, f"failed: {scenario.name}", faults(listed, device, all_points), failed)
