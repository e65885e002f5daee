# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Killed at every system call: the old version is active or the new one, whole, and the next swap succeeds."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from . import strace
from .checks import check_of
from .scenarios import SCENARIOS, Scenario, clone
from .strace import Call
from .sweep import Results, sweep


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
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
