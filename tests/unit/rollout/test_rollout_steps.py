# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The steps of a rollout on the controller, with results as the modules return them: no Ansible, no device."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from controller import DIGITS
from rollout_stage import CLASSES, DONE, DOWN, UP, Stage
from rollouts import UNMEASURED

from ansible_collections.edgeml.fleet.plugins.module_utils._common import files
from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import (
    ArgumentError,
    EdgemlError,
    ManifestError,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout import judging, ledger
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.checks import Verdict
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.lock import LockedError
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.options import RolloutOptions
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.report.view import view_of
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.rollout import RolloutError, State
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.steps import scene
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.steps.refusal import refused
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.steps.scene import StepError

REFUSED = {"failed": True, "refused": True, "version": "1.1.0", "live": "1.0.0", "msg": "no room"}
AWAY = {"unreachable": True, "started": False, "msg": "ssh: connect to host"}


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    (tmp_path / "scratch").mkdir()
    return Stage(tmp_path)


# ---- plan ----


def test_the_plan_opens_the_ledger_and_says_what_comes(stage: Stage) -> None:
    planned = stage.step("plan")
    assert planned["next"] == "roll_out"
    first, second = (wave["hosts"] for wave in planned["waves"])
    assert planned["msg"] == ["digits 1.1.0", f"25%: 2: {', '.join(first)}", f"100%: 2: {', '.join(second)}"]
    assert stage.rollout().state is State.RUNNING
    assert stage.rollout().plan.device_classes == CLASSES
    assert (stage.noted["hosts"], stage.noted["sizes"]) == ([*first, *second], [2, 2])
    assert stage.noted["closing"] == first[:1]


def test_a_channel_is_planned_as_the_version_that_it_has(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    shutil.copytree(DIGITS, repository)
    stage = Stage(tmp_path, model_version="channel:production", model_repository=str(repository))
    with pytest.raises(ManifestError, match=r"digits has no channel production; it has none\. Set it with: edgeml"):
        stage.step("plan")
    wrong = Stage(tmp_path, model_version="channel:1.1.0", model_repository=str(repository))
    with pytest.raises(ManifestError, match=r"1\.1\.0 is one of its versions: give it as the version, not"):
        wrong.step("plan")
    (repository / "digits" / "channels.json").write_text('{"channels": {"production": "1.1.0"}}')
    planned = stage.step("plan")
    # From here on nobody knows of the channel, which may stand for another version by then.
    assert planned["msg"][0] == "digits 1.1.0"
    assert stage.noted["options"]["version"] == planned["rollout"]["version"] == "1.1.0"
    assert ledger.read(ledger.path_of(str(tmp_path / "ledger"), "digits-1.1.0-1")) is not None


@pytest.mark.parametrize("changes", [{"check_mode": True}, {"rollout_plan_only": "true"}])
def test_a_plan_alone_writes_and_locks_nothing(stage: Stage, changes: dict[str, Any]) -> None:
    stage.check_mode = changes.pop("check_mode", False)
    stage.variables.update(changes)
    planned = stage.step("plan")
    assert not stage.ledger.exists()
    assert planned["next"] == ("end" if changes else "roll_out")
    stage.batch = stage.waves[0]
    assert stage.step("begin_wave")["next"] == ("end" if changes else "swap")
    assert not stage.ledger.exists()


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"model_version": 2.0}, 'Quote it: model_version: "2.0"'),
        ({"model_version": "9.9.9"}, "digits/9.9.9/manifest.json: expected the manifest of digits 9.9.9"),
        ({"rollout_limits": {"acuracy_min": 1}}, "rollout_limits: acuracy_min: no such limit; expected "),
        ({"rollout_limits": {"accuracy_min": "high"}}, "rollout_limits: accuracy_min: expected a number"),
        ({"rollout_limits": {"accuracy_min": 7}}, "rollout_limits: accuracy_min: expected a number from 0 to 1"),
        ({"rollout_waves": ["100%", "50%"]}, 'rollout_waves: expected "100%" as the last one'),
        ({"rollout_max_unavailable": "0%"}, "rollout_max_unavailable: expected a count from 1"),
        ({"rollout_window": ["nights"]}, "rollout_window: "),
        ({"rollout_hosts": "egde"}, "rollout_hosts: no host of the inventory matches 'egde'; its groups are: edge"),
        ({"rollout_ledger": "/dev/null/ledger"}, "rollout_ledger: /dev/null/ledger: the ledger cannot be written: "),
    ],
)
def test_what_is_wrong_is_said_at_the_plan_by_its_name(stage: Stage, variables: dict[str, Any], message: str) -> None:
    stage.variables.update(variables)
    with pytest.raises(EdgemlError) as caught:
        stage.step("plan")
    assert message in str(caught.value)
    assert stage.noted == {}


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("rollout_soak_second", "rollout_soak_second: no such variable; did you mean rollout_soak_seconds?"),
        ("rollout_wave", "rollout_wave: no such variable; did you mean rollout_waves?"),
        ("rollout_limits.max_failures", "rollout_limits.max_failures: expected a mapping, such as -e "),
        # A team's own, and what an earlier job of a workflow told.
        ("rollout_team", None),
        ("rollout_window_night", None),
        ("rollout_verdict", None),
        ("rollout_hosts", None),
        ("rollouts", None),
    ],
)
@pytest.mark.parametrize("step", ["plan", "wanted"])
def test_a_misspelt_variable_is_no_silence(stage: Stage, step: str, name: str, problem: str | None) -> None:
    stage.variables[name] = "edge"
    if problem is None:
        assert stage.step(step)["next"] in ("roll_out", "end")
        return
    with pytest.raises(ArgumentError) as caught:
        stage.step(step)
    assert str(caught.value).startswith(problem)


@pytest.mark.parametrize("empty", ["", None])
def test_what_a_survey_left_empty_has_its_default(stage: Stage, empty: str | None) -> None:
    usual = stage.step("plan")
    optional = [name for name, option in RolloutOptions.spec().items() if not option.get("required")]
    given = {"rollout_ledger", "rollout_waves", "rollout_soak_seconds", "rollout_limits"}
    stage.variables.update(dict.fromkeys([*set(optional) - given, "rollout_hosts", "model_repository_root"], empty))
    assert stage.step("plan")["waves"] == usual["waves"]
    stage.variables["model_name"] = empty
    with pytest.raises(ArgumentError, match=r"^model_name is not set"):
        stage.step("plan")


def test_a_rollout_is_newer_than_all_also_where_the_clock_stepped_back(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest rollout decides what reconcile brings a device to."""
    stage.step("plan")
    first = stage.rollout()
    ledger.write(str(stage.ledger / f"{first.id}.json"), dataclasses.replace(first, began="2096-02-29T23:59:59Z"))
    stage.variables["rollout_attempt"] = 2
    stage.step("plan")
    assert stage.rollout("digits-1.1.0-2").began == "2096-03-01T00:00:00Z"
    # One that goes on keeps the time at which it began.
    stage.step("plan")
    assert stage.rollout("digits-1.1.0-2").began == "2096-03-01T00:00:00Z"


def test_a_device_with_a_wrong_variable_keeps_no_other_from_its_release(stage: Stage) -> None:
    stage.step("plan")
    for number in (1, 2):
        stage.wave(number, {})
    stage.step("close")
    stage.host["edge-l1"]["rollout_server"] = "http://127.0.0.1:8080"
    problem = "edge-l1: rollout_server: expected a mapping; found 'http://127.0.0.1:8080'"
    assert stage.step("wanted")["msg"] == [problem]
    assert set(stage.noted["calls"]) == set(CLASSES) - {"edge-l1"}
    stage.register(scene.RECONCILED, {host: {"results": []} for host in stage.hosts})
    assert problem in stage.step("close")["problem"]


def test_a_ledger_without_a_rollout_says_so(stage: Stage) -> None:
    """A path that is misspelt would otherwise be a fleet where nothing is ever to do."""
    assert stage.step("wanted")["msg"] == [
        f"rollout_ledger: {stage.ledger}: no rollout is known here, so nothing is known of what a device should serve"
    ]
    stage.step("plan")
    assert stage.step("wanted")["msg"] == []


def test_the_fleet_may_be_a_list_of_groups(stage: Stage) -> None:
    stage.groups["edge,more"] = stage.hosts
    stage.variables["rollout_hosts"] = ["edge", "more"]
    assert stage.step("plan")["next"] == "roll_out"


def test_what_is_wrong_with_one_device_is_said_at_the_plan_by_its_name(stage: Stage) -> None:
    stage.host["edge-l1"]["rollout_trial_limits"] = {"crash_max": 1}
    with pytest.raises(ArgumentError, match=r"^edge-l1: rollout_trial_limits: crash_max: no such option"):
        stage.step("plan")


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ({"ansible_connection": "sssh"}, "ansible_connection: expected a connection plugin that this controller has"),
        ({"ansible_become_method": "sodo"}, "ansible_become_method: expected a become plugin that this controller has"),
        ({"ansible_shell_type": "fishy"}, "ansible_shell_type: expected a shell plugin that this controller has"),
        ({"ansible_port": "twenty-two"}, "ansible_port: expected a whole number from 1; found 'twenty-two'"),
        ({"ansible_become": "perhaps"}, "ansible_become: expected true or false; found 'perhaps'"),
        # What Ansible takes, the plan takes.
        ({"ansible_connection": "smart", "ansible_port": "22", "ansible_shell_type": ""}, None),
        ({"ansible_become": "no", "ansible_become_method": "sodo"}, None),
    ],
)
def test_a_device_that_ansible_could_not_even_try_is_said_at_the_plan(
    stage: Stage, variables: dict[str, Any], problem: str | None
) -> None:
    stage.host["edge-l1"].update(variables)
    if problem is None:
        assert stage.step("plan")["next"] == "roll_out"
        return
    with pytest.raises(ArgumentError) as caught:
        stage.step("plan")
    assert str(caught.value).startswith(f"edge-l1: {problem}")


def test_groups_and_classes_that_are_misspelt_are_said_at_the_plan(stage: Stage) -> None:
    stage.variables["rollout_waves"] = ["canery", "100%"]
    stage.host["edge-l1"] = {}
    assert stage.step("plan")["msg"][-2:] == [
        "rollout_waves: canery is no group of the inventory, so there is no wave of it",
        "without device_class, and so a class of their own: 1: edge-l1",
    ]


def test_a_fleet_without_a_device_that_takes_part_is_refused(stage: Stage) -> None:
    for host in stage.host.values():
        host["rollout_pinned"] = "certified"
    with pytest.raises(StepError, match=r"no device to roll out to: edge-l1 pinned: certified; edge-l2 "):
        stage.step("plan")


def test_a_device_that_the_inventory_has_twice_is_named(stage: Stage) -> None:
    for host in stage.host.values():
        host.update(ansible_host="192.0.2.7", ansible_ssh_common_args="-J jump-a")
    # One behind another jump host, and one that is another device of the same gateway.
    stage.host["edge-s1"]["ansible_ssh_common_args"] = "-J jump-b"
    stage.host["edge-s2"]["rollout_server"] = {"store": "/srv/meter"}
    told = "the same device under several names, 192.0.2.7: edge-l1, edge-l2: "
    assert [line for line in stage.step("plan")["msg"] if line.startswith(told)]
    stage.host["edge-l2"]["ansible_host"] = "192.0.2.8"
    assert not [line for line in stage.step("plan")["msg"] if "several names" in line]


def test_a_wave_that_is_none_is_no_wave_to_agree_after(stage: Stage) -> None:
    stage.variables["rollout_approve_after"] = [1, 3]
    with pytest.raises(ArgumentError) as refused:
        stage.step("plan")
    expected = "rollout_approve_after: expected numbers of waves: 1 (25%), 2 (100%); found 3"
    assert str(refused.value) == expected


def test_a_rollout_beside_another_run_is_refused(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    # Time enough for a busy machine to find it taken, and wait.
    monkeypatch.setattr(scene, "LOCK_WAIT_SECONDS", 3)
    with another_run() as owner:
        other = Stage(Path(stage.scratch).parent)
        other.process = owner
        other.step("plan")
        stage.variables["model_version"] = "1.2.0"
        with pytest.raises(LockedError, match=r"another run is at work since .*: digits-1.1.0-1"):
            stage.step("plan")
    # Who waits at the terminal is told for whom, once.
    (told,) = stage.said
    assert told.endswith("Wait for its end, or end that process. This run waits for 3 s")


@contextmanager
def another_run() -> Iterator[int]:
    """Another ansible-playbook: the number of a process, with which its lock ends."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process.pid
        process.communicate(b"\n")


# ---- waves ----


def test_a_rollout_goes_through_its_waves_and_passes(stage: Stage) -> None:
    stage.step("plan")
    for number in (1, 2):
        judged = stage.wave(number, {})
        assert (judged["next"], judged["verdict"], judged["problems"]) == ("next_wave", "pass", [])
    closed = stage.step("close")
    assert (closed["state"], closed["problem"]) == ("passed", "")
    assert closed["stats"]["rollout_verdict"] == "pass"
    assert closed["stats"]["rollout_outcomes"] == {"updated": 4}
    assert stage.rollout().state is State.PASSED
    assert "rollout digits-1.1.0-1" in Path(closed["stats"]["rollout_report"]).read_text()


def a_paused_rollout(stage: Stage) -> tuple[str, str]:
    """Pause a rollout of the whole fleet after its first wave; return the devices of the second."""
    stage.step("plan")
    stage.wave(1, {})
    assert stage.step("close")["state"] == "paused"
    first, second = stage.waves[1]
    return first, second


def only(stage: Stage, host: str, narrowed_by: str) -> None:
    stage.hosts = [host]
    stage.limited = narrowed_by == "--limit"
    stage.groups = {**stage.groups, "hall": [host]}
    stage.variables["rollout_hosts"] = "edge" if stage.limited else "hall"


@pytest.mark.parametrize("narrowed_by", ["--limit", "rollout_hosts"])
def test_a_rollout_that_goes_on_with_a_part_passes_for_nobody_else(stage: Stage, narrowed_by: str) -> None:
    played, other = a_paused_rollout(stage)
    hosts = stage.hosts
    only(stage, played, narrowed_by)
    planned = stage.step("plan")
    assert f"left to another run of this rollout: 1: {other}" in planned["msg"]
    assert stage.wave(1, {})["verdict"] == "pass"
    closed = stage.step("close")
    assert (closed["state"], closed["stats"]["rollout_verdict"]) == ("paused", "paused")
    assert f"1 device of the rollout not yet: {other}. " in closed["problem"]
    assert "run the same command without --limit" in closed["problem"]
    assert "the same command goes on from here" not in closed["problem"]
    assert (stage.rollout().state, stage.rollout().not_passed) == (State.PAUSED, [other])
    # Again: nothing is new, and it still passes for nobody else.
    stage.step("plan")
    stage.wave(1, {})
    assert stage.step("close")["state"] == "paused"
    # The other one comes, alone: now all have passed.
    only(stage, other, narrowed_by)
    planned = stage.step("plan")
    assert not any("left to another run" in line for line in planned["msg"])
    stage.wave(1, {})
    closed = stage.step("close")
    assert (closed["state"], closed["problem"], closed["stats"]["rollout_verdict"]) == ("passed", "", "pass")
    stage.hosts, stage.limited, stage.variables["rollout_hosts"] = hosts, False, "edge"
    stage.step("plan")
    for number in (1, 2):
        stage.wave(number, {})
    assert stage.step("close")["why"] == "every wave passed"


def test_a_wave_that_fails_after_a_later_one_has_passed_on_a_part_decides(stage: Stage) -> None:
    stage.step("plan")
    ill, later, hosts = stage.waves[0][0], stage.waves[1][0], stage.hosts
    only(stage, later, "--limit")
    stage.step("plan")
    assert stage.wave(1, {})["verdict"] == "pass"
    stage.step("close")
    stage.hosts, stage.limited = hosts, False
    stage.step("plan")
    assert stage.wave(1, {ill: REFUSED})["next"] == "revert"
    closed = stage.step("close")
    assert (closed["state"], closed["stats"]["rollout_verdict"]) == ("failed", "fail")
    assert view_of(stage.rollout().to_dict())["deciding"] == 1


def test_a_part_goes_back_for_no_wave_of_others(stage: Stage) -> None:
    """A wave in which every device refuses the release fails, and pauses the rollout."""
    stage.variables["rollout_limits"] = {**UNMEASURED, "accuracy_min": 0.5, "max_failures": "50%"}
    stage.step("plan")
    refusing, later = stage.waves
    assert stage.wave(1, dict.fromkeys(refusing, REFUSED))["verdict"] == "fail"
    assert stage.step("close")["state"] == "paused"
    stage.hosts, stage.limited = later, True
    stage.step("plan")
    # Nothing is known of its answers.
    assert stage.wave(1, {})["verdict"] == "inconclusive"
    assert stage.run["revert"] == []
    assert stage.step("close")["problem"].startswith("digits-1.1.0-1: paused; nothing was reverted")


@pytest.mark.parametrize("gone_by", ["inventory", "rollout_pinned"])
def test_a_device_that_takes_no_part_any_more_keeps_no_rollout_open(stage: Stage, gone_by: str) -> None:
    played, other = a_paused_rollout(stage)
    only(stage, played, "--limit")
    if gone_by == "inventory":
        stage.groups = {name: [host for host in hosts if host != other] for name, hosts in stage.groups.items()}
    else:
        stage.host[other]["rollout_pinned"] = "a trial"
    stage.step("plan")
    stage.wave(1, {})
    closed = stage.step("close")
    assert (closed["state"], closed["problem"]) == ("passed", "")
    assert f"without 1 device no longer taking part: {other}" in closed["why"]


def test_a_failed_wave_names_the_devices_that_go_back(stage: Stage) -> None:
    stage.step("plan")
    ill, well = stage.waves[0]
    judged = stage.wave(1, {ill: REFUSED})
    assert (judged["next"], judged["verdict"]) == ("revert", "fail")
    assert stage.run["revert"] == stage.run["closing"] == [well]
    stage.register(scene.REVERT, {well: {"changed": True, "before": UP, "after": DOWN}})
    closed = stage.step("close")
    assert closed["state"] == "failed"
    assert closed["problem"].startswith("digits-1.1.0-1: failed, and was reverted where it had been activated. fail: ")
    assert closed["stats"]["rollout_outcomes"] == {"refused": 1, "reverted": 1, "not started": 2}
    with pytest.raises(RolloutError, match="was stopped"):
        stage.step("plan")


def test_a_wave_that_says_too_little_soaks_again_and_then_pauses(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)
    stage.variables.update(rollout_soak_seconds=60, rollout_soak_seconds_max=180)
    stage.variables["rollout_limits"] = {**UNMEASURED, "reporting_share_min": 1}
    stage.step("plan")
    lost = stage.waves[0][0]
    judged = stage.wave(1, {lost: AWAY}, {lost: AWAY})
    assert judged["next"] == "end"
    assert waits == [59, 60, 60]
    assert [analysis.verdict for analysis in stage.rollout().waves[0].analyses] == [Verdict.INCONCLUSIVE] * 3
    closed = stage.step("close")
    assert (closed["state"], closed["stats"]["rollout_verdict"]) == ("paused", "inconclusive")
    assert "paused; nothing was reverted" in closed["problem"]
    assert stage.rollout().state is State.PAUSED


def test_other_hosts_than_planned_pause_the_rollout(stage: Stage) -> None:
    stage.step("plan")
    stage.batch = stage.waves[0][:1]
    begun = stage.step("begin_wave")
    assert begun["next"] == "end"
    assert f"not played: {stage.waves[0][1]}" in begun["why"]
    closed = stage.step("close")
    assert closed["state"] == "paused"
    assert f"not played: {stage.waves[0][1]}" in closed["problem"]


def test_a_planned_wave_that_was_never_played_fails_the_run(stage: Stage) -> None:
    stage.step("plan")
    stage.wave(1, {})
    closed = stage.step("close")
    assert closed["state"] == "paused"
    assert closed["problem"].endswith("wave 2 (100%) was not judged")


def test_a_wave_that_could_not_be_judged_pauses_the_rollout(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_measured: Any, **_options: Any) -> None:
        raise MemoryError("out of memory")

    stage.step("plan")
    monkeypatch.setattr(judging, "judge", no_memory)
    assert stage.wave(1, {})["next"] == "end"
    assert stage.run["revert"] == []
    stage.batch = stage.waves[1]
    assert stage.step("begin_wave")["next"] == "end"
    closed = stage.step("close")
    assert closed["problem"].endswith("wave 1 (25%) could not be judged: MemoryError: out of memory")


def test_a_wave_whose_verdict_nobody_heard_of_lets_no_other_begin(stage: Stage) -> None:
    """The step that judges was ended, by a time limit or a signal."""
    stage.step("plan")
    stage.batch = stage.waves[0]
    stage.step("begin_wave")
    stage.batch = stage.waves[1]
    begun = stage.step("begin_wave")
    assert (begun["next"], begun["why"]) == ("end", "wave 1 (25%) has not passed")
    assert stage.step("close")["state"] == "paused"


@pytest.mark.parametrize(("typed", "following"), [("yes", "swap"), ("", "end")])
def test_a_person_at_the_terminal_is_asked(stage: Stage, typed: str, following: str) -> None:
    stage.variables["rollout_approve_after"] = [1]
    stage.can_ask, stage.answer = True, typed
    stage.step("plan")
    stage.wave(1, {})
    stage.batch = stage.waves[1]
    assert stage.step("begin_wave")["next"] == following


@pytest.mark.parametrize(
    ("step", "stat"), [("plan", "rollout_problem"), ("rollback", "rollback_problem"), ("wanted", "reconcile_problem")]
)
def test_workflows_hear_why_nothing_was_begun(stage: Stage, step: str, stat: str) -> None:
    refusal = refused(step, StepError("no device"), cast("scene.Scene", stage))
    assert refusal is not None
    assert refusal["stats"][stat] == "no device"
    assert (refusal["next"] == "refuse") == (step != "wanted")


def test_other_steps_fail_by_themselves(stage: Stage) -> None:
    assert refused("judge", StepError("no device"), cast("scene.Scene", stage)) is None


def test_a_run_without_its_plan_says_what_is_wrong(stage: Stage) -> None:
    with pytest.raises(StepError, match="--start-at-task and --tags leave out"):
        stage.step("begin_wave")
    stage.noted = {"scratch": "/of/an/earlier/run", "kind": "rollout"}
    with pytest.raises(StepError, match="this run has no plan"):
        stage.step("judge")


# ---- a ledger that cannot be written any more ----


@pytest.fixture
def full(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """A stage whose disk is full once its second write begins."""
    write, count = files.write_whole, 0

    def write_whole(path: str, text: str) -> None:
        nonlocal count
        count += 1
        if count > full_after:
            raise OSError(28, "No space left on device", path)
        write(path, text)

    full_after = 2
    monkeypatch.setattr(f"{ledger.__name__}.write_whole", write_whole)
    return stage


def test_a_full_disk_under_the_ledger_turns_no_fail_into_nothing_reverted(full: Stage) -> None:
    full.step("plan")
    ill, well = full.waves[0]
    judged = full.wave(1, {ill: REFUSED})
    assert judged["next"] == "revert"
    assert "No space left on device" in judged["warnings"][0]
    assert full.run["revert"] == [well]
    closed = full.step("close")
    assert closed["state"] == "failed"
    assert "was reverted where it had been activated" in closed["problem"]


def test_a_full_disk_under_the_ledger_begins_no_further_wave(full: Stage) -> None:
    full.step("plan")
    judged = full.wave(1, {})
    assert (judged["verdict"], judged["next"]) == ("pass", "end")
    closed = full.step("close")
    assert closed["state"] == "paused"
    assert "No space left on device" in closed["problem"]


# ---- reconcile ----


def test_each_device_is_brought_to_what_the_ledger_says(stage: Stage) -> None:
    stage.step("plan")
    for number in (1, 2):
        stage.wave(number, {})
    stage.step("close")
    stage.host["edge-s1"]["rollout_maintenance"] = True
    wanted = stage.step("wanted")
    assert wanted["next"] == "swap"
    assert sorted(stage.noted["calls"]) == ["edge-l1", "edge-l2", "edge-s2"]
    (call,) = stage.noted["calls"]["edge-l1"]
    assert call == {
        "model": "digits",
        "version": "1.1.0",
        "state": "active",
        "rollout_id": "digits-1.1.0-1",
        "reason": "reconcile",
    }
    results = {host: {"results": [{**DONE, "item": calls[0]}]} for host, calls in stage.noted["calls"].items()}
    results["edge-l2"] = {"results": [{**AWAY, "item": call}]}
    stage.register(scene.RECONCILED, results)
    closed = stage.step("close")
    assert (closed["stats"]["reconcile_outcomes"], closed["problem"]) == ({"updated": 2, "away": 1}, "")
    stage.register(scene.RECONCILED, {"edge-l2": {"results": [{**REFUSED, "item": call}]}, "edge-l1": {}})
    assert stage.step("close")["problem"] == "edge-l2: no room; neither reached nor explained: edge-l1"
    stage.register(scene.UNMENDED, {"edge-l2": {"msg": "no room for the venv either"}})
    assert stage.step("close")["problem"].startswith(
        "edge-l2: no room; the service could not be mended: no room for the venv either; "
    )


def test_devices_are_told_of_withdrawn_releases(stage: Stage, tmp_path: Path) -> None:
    repository = tmp_path / "models"
    shutil.copytree(DIGITS, repository)
    (repository / "digits/1.2.0/withdrawn.json").write_text('{"reason": "labels were permuted"}')
    stage.variables["model_repository"] = str(repository)
    told = {"releases": {"1.2.0": "labels were permuted"}, "number": 0, "root": ""}
    stage.step("plan")
    assert stage.noted["withdrawn"] == told
    for number in (1, 2):
        stage.batch = stage.waves[number - 1]
        assert stage.step("begin_wave")["call"]["withdrawn"] == told
        stage.wave(number, {})
    stage.step("close")
    stage.step("wanted")
    assert stage.noted["withdrawn"] == {"digits": told}


def test_nothing_is_to_do_for_a_fleet_without_a_ledger(stage: Stage) -> None:
    assert stage.step("wanted")["next"] == "end"
    assert (stage.noted["next"], stage.noted["hosts"]) == ("end", ["edge-l1"])


def test_a_damaged_ledger_keeps_nobody_from_what_it_is_not_about(stage: Stage) -> None:
    stage.step("plan")
    for number in (1, 2):
        stage.wave(number, {})
    stage.step("close")
    (stage.ledger / "faces-1.0.0-1.json").write_text("{")
    stage.step("wanted")
    assert len(stage.noted["calls"]) == 4
    (stage.ledger / "digits-1.2.0-1.json").write_text("{")
    wanted = stage.step("wanted")
    assert stage.noted["calls"] == {}
    assert stage.noted["next"] == "swap", "the run ends with what is wrong"
    assert "digits-1.2.0-1.json: cannot be read" in wanted["msg"][0]
    assert "digits-1.2.0-1.json: cannot be read" in stage.step("close")["problem"]


def test_a_release_is_verified_once_for_all_devices(stage: Stage, tmp_path: Path) -> None:
    stage.step("plan")
    for number in (1, 2):
        stage.wave(number, {})
    stage.step("close")
    stage.step("wanted")
    assert [len(calls) for calls in stage.noted["calls"].values()] == [1, 1, 1, 1]
    document = json.loads((DIGITS / "digits" / "1.1.0" / "manifest.json").read_text())
    assert stage.noted["manifests"] == {"digits": {"1.1.0": document}}
    # One that is refused is left to each device, whose call says why; so is a repository that is not to be trusted.
    repository = tmp_path / "repository"
    shutil.copytree(DIGITS, repository)
    (repository / "digits" / "1.1.0" / "withdrawn.json").write_text('{"reason": "labels were permuted"}')
    stage.variables["model_repository"] = str(repository)
    stage.step("wanted")
    assert (len(stage.noted["calls"]), stage.noted["manifests"]) == (4, {})
    stage.variables["model_repository_unsigned"] = False
    stage.step("wanted")
    assert (len(stage.noted["calls"]), stage.noted["manifests"]) == (4, {})


def test_withdrawn_releases_are_read_where_there_is_a_repository(stage: Stage, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    shutil.copytree(DIGITS, repository)
    (repository / "digits" / "1.0.0" / "withdrawn.json").write_text('{"reason": "labels were permuted"}')
    stage.variables["model_repository"] = str(repository)
    assert stage.step("withdrawn") == {"withdrawn": {"digits": {"1.0.0": "labels were permuted"}}}
    stage.variables["model_repository_unsigned"] = False
    with pytest.raises(EdgemlError, match="model_repository_root is not set"):
        stage.step("withdrawn")
    del stage.variables["model_repository"]
    assert stage.step("withdrawn") == {"withdrawn": {}}


# ---- rollback ----


@pytest.fixture
def passed(stage: Stage) -> Stage:
    """A stage after a rollout that passed."""
    stage.step("plan")
    for number in (1, 2):
        stage.wave(number, {})
    stage.step("close")
    return stage


BACK = {"changed": True, "before": UP, "after": DOWN}
STAYED = {"changed": False, "before": DOWN, "after": DOWN}


def test_a_rollback_is_noted_before_any_device_is_touched(passed: Stage) -> None:
    passed.variables["rollback_reason"] = "complaints"
    passed.step("rollback")
    assert (passed.rollout().state, passed.rollout().why) == (State.ROLLED_BACK, "complaints")
    assert (passed.noted["version"], passed.noted["reason"]) == ("1.1.0", "complaints")
    assert len(passed.noted["hosts"]) == 4
    passed.register(scene.REVERT, dict.fromkeys(CLASSES, BACK))
    assert passed.step("close")["stats"] == {"rollback_outcomes": {"reverted": 4}}
    # A second, right call stays quiet.
    passed.step("rollback")
    passed.register(scene.REVERT, dict.fromkeys(CLASSES, STAYED))
    assert passed.step("close")["problem"] == ""


@pytest.mark.parametrize(("limited", "wave"), [(True, None), (False, "2")])
def test_a_rollback_of_a_part_leaves_the_rollout_to_the_others(passed: Stage, limited: bool, wave: str | None) -> None:
    passed.limited = limited
    passed.variables["rollback_rollout"] = "digits-1.1.0-1"
    if wave:
        passed.variables["rollback_wave"] = wave
    waves = passed.waves
    passed.step("rollback")
    assert passed.rollout().state is State.PASSED
    assert passed.noted["hosts"] == (waves[1] if wave else [*waves[0], *waves[1]])


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"rollback_rollout": "digits-9.9.9-1"}, "rollback_rollout: expected a rollout of the ledger: digits-1.1.0-1;"),
        ({"rollback_rollout": "digits-1.1.0-1", "rollback_wave": 3}, "expected a wave of digits-1.1.0-1: 1 (25%), 2"),
        ({"rollback_rollout": "digits-1.1.0-1", "rollback_wave": "two"}, "found 'two'"),
        ({"model_version": ""}, "Set model_name and model_version, or rollback_rollout"),
        ({"model_version": 1.1}, 'Quote it: model_version: "1.1"'),
        ({"rollback_hosts": "egde"}, "rollback_hosts: no host of the inventory matches 'egde'"),
        ({"rollback_hosts": "hall-2"}, "rollback_hosts: --limit leaves none of its hosts, which are cam-7"),
    ],
)
def test_what_does_not_exist_is_not_rolled_back(passed: Stage, variables: dict[str, Any], message: str) -> None:
    passed.variables.update(variables)
    passed.groups["hall-2"] = ["cam-7"]
    passed.limited = "--limit" in message
    with pytest.raises(EdgemlError) as caught:
        passed.step("rollback")
    assert message in str(caught.value)
    assert passed.rollout().state is State.PASSED
    if "rollback_rollout" in variables:
        assert "digits 1.1.0 (digits-1.1.0-1, passed)" in str(caught.value), "what is active is named"


@contextmanager
def run_of_its_own(stage: Stage) -> Iterator[None]:
    """Run steps as another ansible-playbook, with whose end its lock ends."""
    with another_run() as stage.process:
        yield


@pytest.fixture
def read_only(stage: Stage) -> Iterator[Stage]:
    """A stage after a rollout that passed, whose ledger can only be read."""
    with run_of_its_own(stage):
        stage.step("plan")
        for number in (1, 2):
            stage.wave(number, {})
        stage.step("close")
    subprocess.run(["mount", "--bind", stage.ledger, stage.ledger], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", stage.ledger], check=True)
    with run_of_its_own(stage):
        yield stage
    subprocess.run(["umount", "--lazy", stage.ledger], check=True)


@pytest.mark.parametrize("target", [{}, {"rollback_rollout": "digits-1.1.0-1"}])
def test_devices_go_back_although_the_ledger_cannot_be_written(read_only: Stage, target: dict[str, Any]) -> None:
    read_only.variables.update(target, rollback_reason="complaints")
    result = read_only.step("rollback")
    assert (result["next"], len(read_only.noted["hosts"])) == ("revert", 4)
    assert "the ledger cannot be written: Read-only file system. Devices go back all the same" in result["warnings"][0]
    # What the devices note says so, too.
    assert read_only.noted["reason"].startswith("complaints; the ledger does not know of it")
    read_only.register(scene.REVERT, dict.fromkeys(CLASSES, BACK))
    closed = read_only.step("close")
    assert closed["problem"].startswith("digits 1.1.0: 4 reverted. But the ledger does not know of it")
    assert "Run the same command again when the ledger can be written" in closed["problem"]
    assert closed["stats"] == {"rollback_outcomes": {"reverted": 4}}
    assert read_only.rollout().state is State.PASSED
    subprocess.run(["mount", "-o", "remount,bind,rw", read_only.ledger], check=True)
    os.kill(read_only.process, signal.SIGKILL)
    with run_of_its_own(read_only):
        read_only.step("rollback")
        read_only.register(scene.REVERT, dict.fromkeys(CLASSES, STAYED))
        assert read_only.step("close")["problem"] == ""
    assert (read_only.rollout().state, read_only.rollout().why) == (State.ROLLED_BACK, "complaints")


def test_a_ledger_whose_disk_is_away_is_told_at_the_end(stage: Stage) -> None:
    """What is below the mount point is empty, and the ledger may say that the version belongs everywhere."""
    stage.ledger.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "none", stage.ledger], check=True)
    try:
        with run_of_its_own(stage):
            assert "Devices go back all the same" in stage.step("rollback")["warnings"][0]
            stage.register(scene.REVERT, dict.fromkeys(CLASSES, BACK))
            problem = stage.step("close")["problem"]
            stage.variables["rollback_rollout"] = "digits-1.1.0-1"
            with pytest.raises(StepError, match=r"cannot be written: .* This command goes back without the ledger"):
                stage.step("rollback")
    finally:
        subprocess.run(["umount", "--lazy", stage.ledger], check=True)
    assert problem.startswith("digits 1.1.0: 4 reverted. But the ledger does not know of it")
    assert f"{stage.ledger}: the ledger cannot be written: Read-only file system" in problem


def test_a_part_goes_back_as_well_where_nothing_was_to_be_noted(read_only: Stage) -> None:
    read_only.limited = True
    assert "Devices go back all the same" in read_only.step("rollback")["warnings"][0]
    read_only.register(scene.REVERT, dict.fromkeys(CLASSES, BACK))
    assert read_only.step("close")["problem"] == ""


def test_a_rollback_beside_another_run_waits_also_where_nothing_can_be_written(
    read_only: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_only.step("rollback")
    monkeypatch.setattr(scene, "LOCK_WAIT_SECONDS", 0)
    second = Stage(Path(read_only.scratch).parent)
    with run_of_its_own(second), pytest.raises(LockedError, match="another run is at work"):
        second.step("rollback")


def test_a_ledger_that_cannot_be_read_is_told_with_the_command_that_needs_none(stage: Stage) -> None:
    stage.ledger.write_text("no directory")
    result = stage.step("rollback")
    assert result["next"] == "revert"
    stage.register(scene.REVERT, dict.fromkeys(CLASSES, BACK))
    assert "4 reverted. But the ledger does not know of it" in stage.step("close")["problem"]
    stage.variables["rollback_rollout"] = "digits-1.1.0-1"
    with pytest.raises(StepError) as refused:
        stage.step("rollback")
    assert str(refused.value).endswith(
        "ansible-playbook edgeml.fleet.rollback -e model_name=digits -e model_version=1.1.0"
    )


def test_a_version_that_nobody_has_is_no_success(passed: Stage) -> None:
    passed.variables["model_version"] = "7.7.7"
    passed.step("rollback")
    there = {"changed": False, "before": UP, "after": UP, "diff": {"before": {"versions": {"1.1.0": "d"}}}}
    passed.register(scene.REVERT, dict.fromkeys(CLASSES, there))
    problem = passed.step("close")["problem"]
    assert problem.startswith("digits 7.7.7: no device has it, and the ledger has no rollout of it. Active: 1.1.0 on 4")
    # One device still holds it: it was rolled back before.
    held = {**there, "diff": {"before": {"versions": {"7.7.7": "d"}}}}
    passed.register(scene.REVERT, {"edge-s1": held})
    assert passed.step("close")["problem"] == ""
