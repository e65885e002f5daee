# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Killed at every system call: the old version is active or the new one, whole, and the next swap succeeds."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from pathlib import Path
from typing import NoReturn

import pytest

from . import strace, subject
from .checks import Check, check_of
from .scenarios import CHOSEN, NEW, NEXT, OLD, SCENARIOS, SWAP, Scenario, clone, swap_to
from .strace import Call
from .sweep import Results, sweep

RANDOM_KILLS = 1000
KILLS_OF_A_DEVICE = 50


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every scenario with --all-points, else those that have all writing paths of the store."""
    if "scenario" in metafunc.fixturenames:
        chosen = SCENARIOS if metafunc.config.getoption("--all-points") else CHOSEN
        metafunc.parametrize("scenario", chosen, ids=lambda scenario: scenario.name)


def test_killed_at_every_call(scenario: Scenario, memory: Path, all_points: bool, results: Results) -> None:
    """Every call that takes a path or a descriptor; without --all-points, every one that changes something."""
    prepared, device, log = memory / "prepared", memory / "device", memory / "log"
    scenario.prepare(prepared)
    check = check_of(scenario, prepared)

    def fresh() -> None:
        shutil.rmtree(device, ignore_errors=True)
        clone(prepared, device)

    def act() -> None:
        scenario.action(device)

    def killed(call: Call) -> str:
        fresh()
        ended = strace.run(act, log, strace.kill_at(call))
        assert ended.killed, ended
        return check.recovered(device)

    # Once without strace, so that nothing is imported or cached for the first time later.
    fresh()
    act()
    fresh()
    listed = strace.calls(act, log)
    chosen = [call for call in listed if all_points or call.changes]
    outcomes = sweep(results, f"killed: {scenario.name}", chosen, killed)
    if scenario.old != scenario.new:
        assert outcomes.keys() == {"old", "new"}, "no kill came after the switch, or none before"


def test_killed_at_random(tmp_path: Path, all_points: bool, results: Results) -> None:
    """A process that swaps for ever, killed at random times, on a real disk; what a kill left is the next one's start.

    Between two swaps the device recovers, and swaps once more."""
    prepared, device = tmp_path / "prepared", tmp_path / "device"
    SWAP.prepare(prepared)
    clone(prepared, device)
    delays = random.Random(11)
    started = time.monotonic()
    _swap_around(device)
    longest = 2 * (time.monotonic() - started)

    def killed(number: int) -> str:
        if number % KILLS_OF_A_DEVICE == 0:
            # Every swap reads the journal, which grows by all of these swaps.
            shutil.rmtree(device)
            clone(prepared, device)
        journal = subject.store_of(device).journal(subject.MODEL).history()
        process = os.fork()
        if process == 0:
            _swap_for_ever(device)
        time.sleep(delays.uniform(0, longest))
        os.kill(process, signal.SIGKILL)
        _pid, status = os.waitpid(process, 0)
        assert os.WIFSIGNALED(status), "the swaps must not end by themselves"
        found = subject.state_of(device)
        rubbish = any((device / "store" / "staging").glob("*"))
        subject.recover(device)
        state = subject.state_of(device)
        anything = Scenario("any", state.active, state.active, (), subject.recover)
        Check(anything, state, journal).consistent(device)
        _swap_around(device)
        if found.active != state.active:
            return "put back"
        return "cleaned" if rubbish else "nothing left"

    outcomes = sweep(results, "killed at random", range(RANDOM_KILLS if all_points else RANDOM_KILLS // 40), killed)
    assert len(outcomes) > 1, "no kill hit a swap"


def _swap_around(device: Path) -> None:
    for version in (NEW, NEXT, OLD):
        swap_to(version, trial_seconds=0)(device)


def _swap_for_ever(device: Path) -> NoReturn:
    try:
        strace.die_with_parent()
        while True:
            _swap_around(device)
    finally:
        os._exit(1)
