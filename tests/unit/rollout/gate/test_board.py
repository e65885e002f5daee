# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Energy, clock and temperature of boards: what the gate reads of them, and what it judges."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.checks import Cause, Check, Finding, Verdict
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.limits import Limits
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.measurements import Board
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.observations import (
    Control,
    DeviceObservation,
    observe_control,
    observe_device,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.verdict import judge
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.report import words

DEVICES = 20
SWAP = {"changed": True, "version": "1.1.0", "live": "1.1.0"}


def board(**changes: Any) -> dict[str, Any]:
    """What the device says: half a joule for each of 1,000 requests, 50 degrees, the full clock."""
    usual = {"energy_joules": 500.0, "power_watts": None, "temperature_celsius": 50.0, "clock_ratio": 1.0}
    return {**usual, "requests": 1000, "seconds": 600.0, **changes}


def device(number: int, now: dict[str, Any] | None, past: dict[str, Any] | None) -> DeviceObservation:
    model = {"live": "1.1.0", "replaced": "1.0.0", "board": now, "past": {"board": past}}
    return observe_device(f"w{number}", "small", SWAP, {"model": model})


def control(number: int, before: dict[str, Any] | None, after: dict[str, Any] | None) -> Control:
    reads = {
        name: {"model": {"live": "1.0.0", "board": found}} for name, found in (("before", before), ("after", after))
    }
    found = observe_control(f"c{number}", {"device_class": "small", **reads}, "1.1.0")
    assert found is not None
    return found


def findings(now: dict[str, Any], after: dict[str, Any] | None = None, **limits: Any) -> dict[Check, Finding]:
    """The findings on a wave whose boards say ``now``; the controls say ``after`` at the end of the soak."""
    wave = [device(number, now, board()) for number in range(DEVICES)]
    until = after or board(energy_joules=1000.0, requests=2000, seconds=1200.0)
    controls = [control(number, board(), until) for number in range(DEVICES)]
    return {item.check: item for item in judge(wave, controls, Limits(**limits)).findings}


@pytest.mark.parametrize(
    ("check", "now", "text"),
    [
        (Check.ENERGY, {"energy_joules": 700.0}, "1.400 [1.373, 1.415] (at most 1.200) times what it was, "),
        (Check.CLOCK, {"clock_ratio": 0.7}, "1.429 [1.401, 1.444] (at most 1.100) times as slow as it was, "),
        (
            Check.TEMPERATURE,
            {"temperature_celsius": 62.0},
            "12.0 [11.6, 12.2] (at most 5.0) degrees Celsius more than it was, ",
        ),
    ],
)
def test_a_version_that_costs_more_fails_on_its_check_alone(check: Check, now: dict[str, Any], text: str) -> None:
    found = findings(board(**now))
    others = {Check.ENERGY, Check.CLOCK, Check.TEMPERATURE} - {check}
    assert found[check].verdict is Verdict.FAIL
    assert words.reason(found[check]).startswith(text)
    assert words.reason(found[check]).endswith("on 20 devices, compared with the past and 20 controls")
    assert {found[other].verdict for other in others} == {Verdict.PASS}


def test_what_the_controls_do_as_well_is_the_hour_s() -> None:
    hot = board(energy_joules=700.0, temperature_celsius=62.0, clock_ratio=0.7)
    beside = board(energy_joules=500 + 700.0, requests=2000, seconds=1200.0, temperature_celsius=62.0, clock_ratio=0.7)
    found = findings(hot, beside)
    assert {found[check].verdict for check in (Check.ENERGY, Check.CLOCK, Check.TEMPERATURE)} == {Verdict.PASS}
    assert found[Check.ENERGY].estimate == pytest.approx(1.0)


def test_a_little_more_is_tolerated() -> None:
    found = findings(board(energy_joules=580.0, temperature_celsius=53.0, clock_ratio=0.95))
    assert {found[check].verdict for check in (Check.ENERGY, Check.CLOCK, Check.TEMPERATURE)} == {Verdict.PASS}


def test_boards_without_sensors_are_not_judged() -> None:
    wave = [device(number, None, None) for number in range(DEVICES)]
    found = {item.check: item for item in judge(wave, [], Limits()).findings}
    for check in (Check.ENERGY, Check.CLOCK, Check.TEMPERATURE):
        assert (found[check].verdict, found[check].cause) == (Verdict.SKIPPED, Cause.NO_SENSOR)
        assert words.reason(found[check]) == "the boards have no such sensor"


def test_a_board_in_another_power_mode_is_not_compared() -> None:
    """Fewer cores and lower clocks are no change of the version; of the others, all is judged as usual."""
    slow = {"energy_joules": 900.0, "clock_ratio": 0.3, "power_mode": "15W"}
    fast = {"power_mode": "MAXN_SUPER"}
    changed = [device(number, board(**slow), board(**fast)) for number in range(DEVICES)]
    found = {item.check: item for item in judge(changed, [], Limits()).findings}
    for check in (Check.ENERGY, Check.CLOCK, Check.TEMPERATURE):
        assert (found[check].verdict, found[check].cause) == (Verdict.SKIPPED, Cause.POWER_MODE)
    assert words.reason(found[Check.CLOCK]) == "the power mode of the boards is another than before"
    same = [device(DEVICES + number, board(**fast), board(**fast)) for number in range(DEVICES)]
    until = board(energy_joules=1000.0, requests=2000, seconds=1200.0)
    controls = [control(number, board(), until) for number in range(DEVICES)]
    found = {item.check: item for item in judge([*changed, *same], controls, Limits()).findings}
    assert (found[Check.CLOCK].verdict, found[Check.CLOCK].devices) == (Verdict.PASS, DEVICES)


def test_limits_turn_them_off() -> None:
    off = {"energy_ratio_max": None, "clock_ratio_max": None, "temperature_rise_max": None}
    found = findings(board(energy_joules=5000.0, clock_ratio=0.1, temperature_celsius=99.0), **off)
    assert not {Check.ENERGY, Check.CLOCK, Check.TEMPERATURE} & set(found)


def test_energy_is_counted_or_the_power_of_the_moment_times_the_time() -> None:
    assert Board(500.0, None, None, None, 1000, 600.0).joules_per_request == 0.5
    assert Board(None, 2.0, None, None, 1000, 600.0).joules_per_request == 1.2
    for unknown in (Board(None, 2.0, None, None, 1000, None), Board(5.0, None, None, None, 0, 1.0)):
        assert unknown.joules_per_request is None
    few = findings(board(requests=19, energy_joules=19.0))
    assert few[Check.ENERGY].cause is Cause.NO_SENSOR


def test_a_control_is_counted_from_one_reading_to_the_other() -> None:
    found = control(1, board(), board(energy_joules=900.0, requests=1500, seconds=900.0, temperature_celsius=55.0))
    assert found.now.board == Board(400.0, None, 55.0, 1.0, 500, 300.0)
    # After a restart the counters begin anew.
    anew = control(1, board(), board(energy_joules=90.0, requests=100, seconds=100.0))
    assert anew.now.board == Board(90.0, None, 50.0, 1.0, 100, 100.0)
    # All of them, also where one has come further meanwhile than it was: energy is that of the same requests.
    anew = control(1, board(), board(energy_joules=600.0, requests=900, seconds=550.0))
    assert anew.now.board == Board(600.0, None, 50.0, 1.0, 900, 550.0)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"energy_joules": -1.0}, "board: energy_joules: expected a number"),
        ({"clock_ratio": 1.5}, "board: clock_ratio: expected a number from 0 to 1"),
        ({"requests": 0.5}, "board: requests: expected a count"),
        ({"temperature_celsius": "hot"}, "board: temperature_celsius: expected a number"),
    ],
)
def test_what_is_no_reading_is_a_problem_with_a_name(changes: dict[str, Any], problem: str) -> None:
    (found,) = device(1, board(**changes), board()).problems
    assert found.startswith(problem)
