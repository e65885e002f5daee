# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A running rollout in words."""

from __future__ import annotations

from typing import Any

import pytest
from stage import ledger

from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.progress import (
    AWAY,
    BAD,
    DONE,
    FAILED,
    JUDGE,
    READ,
    REVERT,
    SKIPPED,
    SOAK,
    SWAP,
    Line,
    Progress,
    duration,
    printable,
    recap,
)


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.seconds = 1_000_000.0

    def __call__(self) -> float:
        return self.seconds


def a_rollout(sizes: dict[str, int], clock: Clock | None = None, **fields: Any) -> Progress:
    waves = {name: [f"{name}-{number}" for number in range(size)] for name, size in sizes.items()}
    clock = clock or Clock()
    return Progress(ledger(waves, **fields), clock, clock)


def texts(lines: list[Line]) -> list[str]:
    return [line.text.removeprefix("digits-1.2.0-1: ") for line in lines]


def status(progress: Progress) -> str:
    return "".join(text for text, _tone in progress.status()).removeprefix("digits-1.2.0-1  ")


def test_the_opening_tells_how_much_there_is_to_do() -> None:
    assert texts(a_rollout({"canary": 1, "100%": 2}).opening()) == ["digits 1.2.0 to 3 devices in 2 waves"]
    assert texts(a_rollout({"100%": 1}).opening(only_looks=True)) == ["would bring digits 1.2.0 to 1 device in 1 wave"]


def test_a_resumed_rollout_says_so_and_goes_on_at_the_wave_that_did_not_pass() -> None:
    waves = [{"number": 1, "verdict": "pass"}, {"number": 2, "verdict": "inconclusive"}]
    progress = a_rollout({"a": 1, "b": 1, "c": 1}, waves=waves)
    assert texts(progress.opening()) == ["digits 1.2.0 to 3 devices in 3 waves; resumed, 1 of 3 waves passed before"]
    assert status(progress).startswith("wave 2 of 3 (b)")


def test_a_rollout_that_passed_already_has_a_status_too() -> None:
    assert status(a_rollout({"a": 1}, waves=[{"number": 1, "verdict": "pass"}])).startswith("wave 1 of 1 (a)")


def test_ten_thousand_devices_at_once_give_one_line_at_the_end() -> None:
    progress = a_rollout({"all": 10_000})
    progress.task(SWAP)
    assert not [line for number in range(10_000) for line in progress.count(f"all-{number}", DONE)]
    assert texts(progress.task(READ)) == [
        "wave 1 of 1 (all): swap, 10000 of 10000 devices: 10000 done, 0 failed, 0 away"
    ]


def test_ten_thousand_slow_devices_give_a_line_for_each_tenth() -> None:
    clock = Clock()
    progress = a_rollout({"all": 10_000}, clock)
    progress.task(SWAP)
    lines = []
    for number in range(10_000):
        clock.seconds += 1
        lines += progress.count(f"all-{number}", DONE)
    assert [line.text.split(", ")[1].split(" of ")[0] for line in lines] == [str(1000 * n) for n in range(1, 10)]
    assert all(line.passing for line in lines)


def test_lines_are_at_least_ten_seconds_apart() -> None:
    clock = Clock()
    progress = a_rollout({"all": 100}, clock)
    progress.task(SWAP)
    times = []
    for number in range(99):
        clock.seconds += 0.3
        times += [clock.seconds for _line in progress.count(f"all-{number}", DONE)]
    assert len(times) == 2
    assert times[1] - times[0] >= 10


def test_a_device_counts_once_by_what_it_told_last() -> None:
    progress = a_rollout({"all": 3})
    progress.task(SWAP)
    for kind in (AWAY, FAILED, DONE):
        progress.count("all-0", kind)
    progress.count("all-1", AWAY)
    progress.count("localhost", FAILED)
    assert status(progress).endswith("swap [#############.......] 2 of 3  done 1  failed 0  away 1")


def test_the_first_devices_that_failed_are_named_with_their_reasons() -> None:
    progress = a_rollout({"all": 8})
    progress.task(SWAP)
    for number in range(7):
        progress.count(f"all-{number}", FAILED, "no room:\n 3 MB\x1b[2J" + "x" * 1000)
    progress.count("all-7", AWAY)
    first, *named, more = progress.task(SOAK)[:-1]
    assert texts([first]) == ["wave 1 of 1 (all): swap, 8 of 8 devices: 0 done, 7 failed, 1 away"]
    assert first.tone == BAD
    assert [line.text[:32] for line in named] == [f"    all-{number}: no room:  3 MB [2Jxxx" for number in range(5)]
    assert {len(line.text) for line in named} == {len("    all-0: ") + 200}
    assert more.text == "    and 2 more failed"


def test_what_devices_fetched_is_told_with_the_swaps() -> None:
    progress = a_rollout({"all": 3})
    progress.task(SWAP)
    progress.count("all-0", DONE, fetched={"bytes": 1_500_000, "failure": None})
    progress.count("all-1", DONE, fetched={"bytes": 100_000, "failure": {"kind": "refused", "message": "404"}})
    progress.count("all-2", DONE)
    (line,) = texts(progress.step_ends())
    assert line.endswith("3 done, 0 failed, 0 away; 2 fetched 1.6 MB, 1 could not fetch everything")


def test_what_deltas_and_held_blocks_saved_is_told() -> None:
    progress = a_rollout({"all": 1})
    progress.task(SWAP)
    fetched = {"bytes": 400_000, "delta_bytes": 300_000, "made_bytes": 9_000_000, "copied_bytes": 1_000_000}
    progress.count("all-0", DONE, fetched={**fetched, "failure": None})
    (line,) = texts(progress.step_ends())
    assert line.endswith("; 1 fetched 0.4 MB in place of 10.1")


def test_the_soak_counts_down() -> None:
    clock = Clock()
    progress = a_rollout({"all": 1}, clock, settings={"soak_seconds": 3700})
    assert texts(progress.task(SOAK)) == ["wave 1 of 1 (all): soaks 1 h 1 min, until 14:48:20 UTC"]
    assert status(progress).endswith("soaks, 1:01:40 left")
    clock.seconds += 3640.5
    assert status(progress).endswith("soaks, 1:00 left")
    clock.seconds += 100
    assert status(progress).endswith("soak ends")


def test_a_verdict_comes_with_the_reasons_that_led_to_it() -> None:
    progress = a_rollout({"a": 1, "b": 1})
    problems = ["inconclusive: latency: not measured", "fail: accuracy: 0.1"]
    assert texts(progress.judged("fail", 3, problems)) == [
        "wave 1 of 2 (a): FAIL, 3 checks",
        "    inconclusive: latency: not measured",
        "    fail: accuracy: 0.1",
    ]


def test_after_a_pass_the_next_wave_comes_and_after_a_look_the_same() -> None:
    progress = a_rollout({"a": 1, "b": 1})
    progress.judged("inconclusive", 0, [])
    assert status(progress).startswith("wave 1 of 2 (a)")
    assert progress.task(SOAK)[0].text.endswith(", analysis 2")
    assert texts(progress.judged("pass", 1, [])) == ["wave 1 of 2 (a): PASS, 1 check"]
    assert status(progress).startswith("wave 2 of 2 (b)")
    assert not progress.task(SOAK)[0].text.endswith("analysis 2")


def test_what_is_read_well_is_not_worth_a_line() -> None:
    progress = a_rollout({"a": 2})
    progress.task(SWAP)
    progress.count("a-0", DONE)
    progress.count("a-1", SKIPPED)
    progress.task(READ)
    progress.count("a-0", DONE)
    assert progress.task(JUDGE) == []
    progress.task(READ)
    progress.count("a-0", AWAY)
    assert texts(progress.task(JUDGE)) == ["wave 1 of 1 (a): read, 1 of 1 device: 0 done, 0 failed, 1 away"]


def test_a_revert_counts_the_devices_of_all_waves() -> None:
    progress = a_rollout({"a": 2, "b": 3, "c": 9})
    progress.judged("pass", 1, [])
    progress.stopped(reverts=True)
    assert texts(progress.task(REVERT)) == ["goes back to the version before"]
    progress.count("a-0", DONE)
    progress.count("b-1", FAILED, "why")
    assert status(progress) == "wave 2 of 3 (b)  revert [########............] 2 of 5  done 1  failed 1  away 0"


def test_without_a_fail_nothing_goes_back() -> None:
    progress = a_rollout({"a": 1})
    progress.stopped(reverts=False)
    assert progress.task(REVERT) == []


@pytest.mark.parametrize(
    ("state", "why", "told"),
    [
        ("passed", "", "PASSED. 2 updated, 1 away"),
        ("paused", "somebody has to agree.", "PAUSED: somebody has to agree. 2 updated, 1 away"),
        ("", "", "did not come to its end. 2 updated, 1 away"),
    ],
)
def test_the_closing_tells_the_state_the_reason_and_the_outcomes(state: str, why: str, told: str) -> None:
    progress = a_rollout({"a": 3})
    lines = progress.closing(state, why, {"updated": 2, "away": 1}, "/srv/r.html")
    assert texts(lines) == [told, "    report: /srv/r.html"]


def test_other_tasks_say_nothing() -> None:
    progress = a_rollout({"a": 1})
    assert progress.task("Gather what became of each device") == []
    assert progress.count("a-0", FAILED) == []


def test_a_run_that_is_no_rollout_gets_a_line_only_if_it_did_something() -> None:
    assert recap("reconcile", {"unchanged": 9, AWAY: 3}) == []
    assert recap("reconcile", {"changed": 1, "unchanged": 9, FAILED: 2, AWAY: 3}) == [
        Line("reconcile: 1 changed, 9 unchanged, 2 failed, 3 away", BAD)
    ]


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0, "0 s"), (90, "90 s"), (150, "2 min 30 s"), (600, "10 min"), (3600, "1 h"), (5400, "1 h 30 min"), (-3, "0 s")],
)
def test_durations_are_told_as_people_do(seconds: float, told: str) -> None:
    assert duration(seconds) == told


def test_nothing_that_a_terminal_obeys_is_printable() -> None:
    assert printable("a\x1b]0;title\x07b\r\nc\u202ed") == "a ]0;title b  c d"
