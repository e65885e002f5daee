# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What ansible-playbook shows of a rollout, and how it ends, with the callback plugin ``edgeml.fleet.rollout``."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from stage import Shown, Stage, a_play, ledger, once, shows, task, wave_tasks

HOSTS = [f"edge-{number:02}" for number in range(12)]
WAVES = {"canary": HOSTS[:2], "100%": HOSTS[2:]}
PASS: list[str] = []
FAIL = ["fail: accuracy: 0.1 lost (at most 0.02)"]
UNWELL = {
    "edge-03": {"failed": True, "msg": "no room: 3 MB\x1b[2J free"},
    "edge-04": {"away": True},
    "edge-05": {"changed": True, "seconds": 2},
}


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path, HOSTS)


def opening(document: Mapping[str, Any]) -> dict[str, Any]:
    return a_play(once("Plan", {"step": "plan", "next": "roll_out", "rollout": dict(document)}))


def closing(state: str, why: str = "", *more: Mapping[str, Any]) -> dict[str, Any]:
    stats = {"rollout_outcomes": {"updated": len(HOSTS)}, "rollout_report": "/srv/digits.html"}
    return a_play(once("Sum up", {"step": "close", "state": state, "why": why, "stats": stats}), *more)


def the_role_fails() -> dict[str, Any]:
    return {"name": "Fail unless all is well", "ansible.builtin.fail": {"msg": "no"}, "run_once": True}


def a_rollout(state: str, second: str = "pass", reasons: Sequence[str] = PASS, soak: int = 0) -> list[dict[str, Any]]:
    document = ledger(WAVES, settings={"soak_seconds": soak})
    return [
        opening(document),
        a_play(*wave_tasks("pass", PASS, document), hosts=WAVES["canary"]),
        a_play(*wave_tasks(second, reasons, document), hosts=WAVES["100%"], vars={"swaps": UNWELL}),
        closing(state, "because", *([] if state == "passed" else [the_role_fails()])),
    ]


def told(shown: Shown) -> list[str]:
    """The plugin's lines of a run without a terminal."""
    return [line.removeprefix("digits-1.2.0-1: ") for line in shown.err.splitlines()]


def screen(text: str) -> list[str]:
    """The lines that are left on a terminal: carriage return, erase to the end of the line, colours."""
    lines = [""]
    column = 0
    for part in re.findall(r"\r\n|\r|\x1b\[K|\x1b\[[0-9;]*m|[^\r\x1b]+|\x1b", text):
        if part == "\r\n":
            lines.append("")
            column = 0
        elif part == "\r":
            column = 0
        elif part == "\x1b[K":
            lines[-1] = lines[-1][:column]
        elif not part.startswith("\x1b"):
            lines[-1] = lines[-1][:column] + part + lines[-1][column + len(part) :]
            column += len(part)
    return lines


def test_devices_that_pull_are_counted_when_they_have_reported(stage: Stage) -> None:
    document = ledger({"canary": HOSTS[:4]})
    tasks = wave_tasks("pass", PASS, document)
    swap = next(position for position, item in enumerate(tasks) if item["name"] == "Bring the release")
    tasks[swap]["when"] = "inventory_hostname == 'edge-00'"
    reports = {
        "edge-01": {"changed": True},
        "edge-02": {"failed": True, "msg": "no room"},
        "edge-03": {"unreachable": True},
    }
    collected = {"step": "collect_swaps", "next": "swap", "reports": reports}
    tasks.insert(swap + 1, once("Wait for reports", collected, vars=shows("swap")))
    shown = stage.play(opening(document), a_play(*tasks, hosts=HOSTS[:4]), closing("passed"))
    assert told(shown)[1:3] == [
        "wave 1 of 1 (canary): swap, 4 of 4 devices: 2 done, 1 failed, 1 away",
        "    edge-02: no room",
    ]


# ---- how a run ends ----


@pytest.mark.parametrize(
    ("state", "code"), [("passed", 0), ("failed", 2), ("paused", 3)], ids=["passed", "failed", "paused"]
)
def test_the_exit_code_tells_how_the_rollout_ended(stage: Stage, state: str, code: int) -> None:
    shown = stage.play(*a_rollout(state))
    assert shown.code == code
    assert told(shown)[-2:] == [f"{state.upper()}: because. 12 updated", "    report: /srv/digits.html"]
    assert "PLAY RECAP" in shown.out


def test_a_rollout_that_pauses_without_a_failing_task_ends_with_3_too(stage: Stage) -> None:
    assert stage.play(opening(ledger(WAVES)), closing("paused")).code == 3


def test_a_failure_that_is_none_of_the_rollout_stays_one(stage: Stage) -> None:
    assert stage.play(opening(ledger(WAVES)), closing("passed"), a_play(the_role_fails())).code == 2


def test_a_rollout_that_breaks_off_says_so_and_keeps_ansible_s_exit_code(stage: Stage) -> None:
    shown = stage.play(opening(ledger(WAVES)), a_play(the_role_fails()))
    assert shown.code == 2
    assert told(shown)[-1] == "did not come to its end. No device touched"


def test_an_older_state_of_the_ledger_decides_nothing(stage: Stage) -> None:
    assert stage.play(opening(ledger(WAVES, "paused")), a_play(the_role_fails())).code == 2


def test_the_next_playbook_of_the_same_command_starts_afresh(stage: Stage) -> None:
    (stage.directory / "second.yml").write_text(json.dumps([a_play(the_role_fails())]))
    document = ledger(WAVES)
    shown = stage.play(opening(document), closing("passed"), options=["second.yml"])
    assert shown.code == 2
    assert shown.err.count("PASSED") == 1


def test_what_the_stdout_callback_makes_of_a_failed_rollout_stays_whole(stage: Stage) -> None:
    document = ledger(WAVES)
    plays = [opening(document), closing("failed")]
    shown = stage.play(*plays, environment={"ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json"})
    assert shown.code == 2
    assert set(json.loads(shown.out)["stats"]) == set(HOSTS[:1])


def test_callbacks_that_are_enabled_before_it_get_the_statistics_of_a_failed_rollout(stage: Stage) -> None:
    document = ledger(WAVES)
    enabled = {"ANSIBLE_CALLBACKS_ENABLED": "ansible.posix.timer,edgeml.fleet.rollout"}
    shown = stage.play(opening(document), closing("failed"), environment=enabled)
    assert shown.code == 2
    assert "Playbook run took" in shown.out


# ---- what is told without a terminal ----


def test_lines_tell_the_whole_rollout(stage: Stage) -> None:
    shown = stage.play(*a_rollout("failed", "fail", FAIL))
    assert [re.sub(r"until [0-9:]+ UTC", "until then", line) for line in told(shown)] == [
        "digits 1.2.0 to 12 devices in 2 waves",
        "wave 1 of 2 (canary): swap, 2 of 2 devices: 2 done, 0 failed, 0 away",
        "wave 1 of 2 (canary): soaks 0 s, until then",
        "wave 1 of 2 (canary): PASS, 1 check",
        "wave 2 of 2 (100%): swap, 10 of 10 devices: 8 done, 1 failed, 1 away",
        "    edge-03: no room: 3 MB [2J free",
        "wave 2 of 2 (100%): soaks 0 s, until then",
        "wave 2 of 2 (100%): FAIL, 2 checks",
        "    fail: accuracy: 0.1 lost (at most 0.02)",
        "FAILED: because. 12 updated",
        "    report: /srv/digits.html",
    ]


def test_what_the_first_device_does_for_all_is_not_counted_as_its_own(stage: Stage) -> None:
    document = ledger({"all": HOSTS})
    away = {HOSTS[0]: {"away": True}}
    shown = stage.play(
        opening(document), a_play(*wave_tasks("pass", PASS, document), vars={"swaps": away, "reads": away})
    )
    assert [line for line in told(shown) if "devices: " in line] == [
        "wave 1 of 1 (all): swap, 12 of 12 devices: 11 done, 0 failed, 1 away",
        "wave 1 of 1 (all): read, 12 of 12 devices: 11 done, 0 failed, 1 away",
    ]


def test_a_wave_in_serial_batches_is_one_wave(stage: Stage) -> None:
    document = ledger({"all": HOSTS})
    shown = stage.play(opening(document), a_play(*wave_tasks("pass", PASS, document)[:2], serial=5))
    assert told(shown)[1:-1] == ["wave 1 of 1 (all): swap, 12 of 12 devices: 12 done, 0 failed, 0 away"]


def test_check_mode_tells_what_would_happen_and_nothing_else(stage: Stage) -> None:
    shown = stage.play(*a_rollout("passed")[:2], options=["--check"])
    assert shown.code == 0
    assert told(shown) == ["would bring digits 1.2.0 to 12 devices in 2 waves"]


@pytest.mark.parametrize("terminal", [False, True])
def test_a_playbook_that_is_no_rollout_gets_nothing(stage: Stage, terminal: bool) -> None:
    play = a_play(task("Fetch, verify and swap", "model_swap", {"changed": True}, vars=shows("swap")))
    shown = stage.play(play, terminal=terminal)
    assert (shown.code, shown.err) == (0, "")
    assert "\x1b[K" not in shown.out
    assert shown.out.rstrip().endswith("ignored=0"), "the recap is the end"


def test_with_no_progress_only_the_exit_code_is_left(stage: Stage) -> None:
    shown = stage.play(*a_rollout("paused"), environment={"EDGEML_ROLLOUT_PROGRESS": "none"})
    assert (shown.code, told(shown)) == (3, [])


@pytest.mark.parametrize(
    "broken",
    [
        {"id": "x"},
        {"id": "x", "plan": {"waves": [{}]}},
        {"id": "x", "model": "m", "version": "1", "plan": {"waves": []}},
        {**ledger(WAVES), "settings": {}},
        {**ledger(WAVES), "waves": 7},
    ],
)
def test_a_ledger_that_nobody_understands_breaks_no_run(stage: Stage, broken: dict[str, Any]) -> None:
    tasks = wave_tasks("pass", PASS, ledger(WAVES))
    shown = stage.play(opening(broken), a_play(*tasks[:-1]), closing("paused"), terminal=False)
    assert shown.code == 3
    assert "PLAY RECAP" in shown.out
    assert shown.err.count("no longer shown") == 1


# ---- what is seen on a terminal ----


def test_a_terminal_has_one_line_that_is_rewritten(stage: Stage) -> None:
    shown = stage.play(*a_rollout("passed", soak=2), terminal=True, environment={"ANSIBLE_NOCOLOR": "1"})
    assert shown.code == 0
    for drawn in (
        "wave 1 of 2 (canary)  soaks, 0:02 left",
        "wave 1 of 2 (canary)  soaks, 0:01 left",
        "wave 2 of 2 (100%)  swap [##################..] 9 of 10  done 7  failed 1  away 1",
    ):
        assert f"\r\x1b[Kdigits-1.2.0-1  {drawn}" in shown.out
    left = screen(shown.out)
    assert not [line for line in left if "soaks, 0:0" in line or "swap [" in line], "each was taken away again"
    assert "digits-1.2.0-1: wave 2 of 2 (100%): swap, 10 of 10 devices: 8 done, 1 failed, 1 away" in left
    assert not [line for line in left if "changed: [" in line and not line.startswith("changed: [")]


def test_the_terminal_s_line_is_never_longer_than_the_terminal(stage: Stage) -> None:
    document = ledger({"a wave with a very long name " * 9: HOSTS}, settings={"soak_seconds": 1})
    plays = [opening(document), a_play(*wave_tasks("pass", PASS, document))]
    shown = stage.play(*plays, terminal=True, environment={"ANSIBLE_NOCOLOR": "1"})
    drawings = re.findall(r"\r\x1b\[K([^\r\n]*)", shown.out)
    assert max(len(drawing) for drawing in drawings) == 99


@pytest.mark.parametrize("variable", ["NO_COLOR", "ANSIBLE_NOCOLOR"])
def test_colours_follow_ansible(stage: Stage, variable: str) -> None:
    document = ledger(WAVES)
    plays = [opening(document), closing("paused")]
    assert "\x1b[1;35mdigits-1.2.0-1: PAUSED" in stage.play(*plays, terminal=True).out
    assert not re.search(r"\x1b\[[0-9;]*m", stage.play(*plays, terminal=True, environment={variable: "1"}).out)


@pytest.mark.parametrize("environment", [{"AWX_ISOLATED_DATA_DIR": "/runner"}, {"TERM": "dumb"}])
def test_a_terminal_that_is_recorded_or_cannot_rewrite_gets_lines(stage: Stage, environment: dict[str, str]) -> None:
    shown = stage.play(*a_rollout("passed", soak=1), terminal=True, environment=environment)
    assert "\x1b[K" not in shown.out
    assert "digits-1.2.0-1: wave 1 of 2 (canary): soaks 1 s" in shown.out
