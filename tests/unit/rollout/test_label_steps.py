# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Labels re-open a rollout that has passed: the steps of a reconciliation that judge them."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from rollout_stage import Stage
from rollouts import a_rollout

from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout import ledger
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.checks import Verdict
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.rollout import Rollout, State
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.steps.labels import LABELS

DAY = datetime.timedelta(days=1)


@pytest.fixture
def passed(tmp_path: Path) -> Stage:
    """A rollout of the digits that has passed on four devices."""
    (tmp_path / "scratch").mkdir()
    stage = Stage(tmp_path, rollout_limits={})
    stage.variables["rollout_limits"] = {"accuracy_drop_max": None, "probe_error_ratio_max": None}
    stage.step("plan")
    for number in (1, 2):
        stage.wave(number, {}, dict.fromkeys(stage.hosts, read(200_000, 0)))
    stage.step("close")
    assert stage.rollout().state is State.PASSED
    return stage


def read(right: int, wrong: int, live: str = "1.1.0") -> dict[str, Any]:
    """What ``model_info`` says of a device with so many labels since it has the release."""
    requests = {"requests": 1000, "errors": 0, "timed": 0, "latency_buckets": []}
    past = {"labels": {"right": 95_000, "wrong": 5_000}, "requests": requests}
    labels = {"right": right, "wrong": wrong}
    return {"model": {"live": live, "replaced": "1.0.0", "labels": labels, "requests": requests, "past": past}}


def reconcile(stage: Stage, answer: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Play what the playbook does: ask who is to be asked, judge, and find out what each device should be on."""
    stage.batch = stage.hosts[:1]
    found = stage.step("open_verdicts")
    judged: dict[str, Any] = {"msg": []}
    if found["next"] != "end":
        asked = stage.noted["models"]
        assert asked == {host: ["digits"] for host in stage.hosts}
        stage.register(LABELS, {host: {"results": [{**answer, "item": "digits"}]} for host in asked})
        judged = stage.step("judge_labels")
    return judged, stage.step("wanted")


def test_labels_that_come_later_fail_the_rollout_and_the_same_run_takes_devices_back(passed: Stage) -> None:
    judged, wanted = reconcile(passed, read(2250, 250))
    rollout = passed.rollout()
    assert (rollout.state, [analysis.labels for analysis in rollout.labels]) == (State.FAILED, [10_000])
    assert rollout.labels[0].verdict is Verdict.FAIL
    assert rollout.why.startswith("labels that came later: fail: live accuracy drop")
    assert judged["msg"] == [f"digits-1.1.0-1 has failed, and its devices leave 1.1.0 (4): {rollout.why}"]
    assert wanted["next"] == "swap"
    calls = passed.noted["calls"]
    assert {host: (call["state"], call["version"]) for host, (call,) in calls.items()} == dict.fromkeys(
        passed.hosts, ("previous", "1.1.0")
    )
    # It ends with an error, so that somebody hears of it: once.
    assert passed.step("close")["problem"].startswith("neither reached nor explained")
    assert rollout.why in passed.step("close")["problem"]
    assert "Labels that came later" in (passed.ledger / "digits-1.1.0-1.html").read_text()
    _again, quiet = reconcile(passed, read(2250, 250))
    assert quiet["msg"] == []


def test_good_labels_are_noted_and_a_run_without_news_changes_nothing(passed: Stage) -> None:
    judged, _wanted = reconcile(passed, read(2375, 125))
    assert judged["msg"] == ["digits-1.1.0-1: 10000 labels by now: pass"]
    before = (passed.ledger / "digits-1.1.0-1.json").read_bytes()
    again, _wanted = reconcile(passed, read(2375, 125))
    assert again["msg"] == []
    assert (passed.ledger / "digits-1.1.0-1.json").read_bytes() == before
    later, _wanted = reconcile(passed, read(4750, 250))
    assert later["msg"] == ["digits-1.1.0-1: 20000 labels by now: pass"]
    assert [analysis.labels for analysis in passed.rollout().labels] == [10_000, 20_000]
    assert passed.rollout().state is State.PASSED


def test_check_mode_says_what_would_follow_and_notes_nothing(passed: Stage) -> None:
    before = (passed.ledger / "digits-1.1.0-1.json").read_bytes()
    passed.check_mode = True
    judged, _wanted = reconcile(passed, read(2250, 250))
    assert judged["msg"][0].startswith("digits-1.1.0-1 would fail, and its devices would leave 1.1.0 (4): labels that")
    assert (passed.ledger / "digits-1.1.0-1.json").read_bytes() == before


@pytest.mark.parametrize("changes", [{"failed": True, "msg": "broken"}, {"unreachable": True}])
def test_a_device_that_does_not_answer_says_nothing_of_labels(passed: Stage, changes: dict[str, Any]) -> None:
    judged, _wanted = reconcile(passed, {**read(2250, 250), **changes})
    assert judged["msg"] == []


def test_a_device_on_another_version_does_not_count(passed: Stage) -> None:
    judged, _wanted = reconcile(passed, read(2250, 250, live="1.0.0"))
    assert judged["msg"] == []


def changed(stage: Stage, rollout: Rollout) -> None:
    ledger.write(ledger.path_of(str(stage.ledger), rollout.id), rollout)


@pytest.mark.parametrize("closed", ["late", "off", "limit", "part", "running", "newer"])
def test_a_verdict_is_not_open_for_ever_nor_everywhere(passed: Stage, closed: str) -> None:
    rollout = passed.rollout()
    if closed == "late":
        days = (datetime.datetime.now(datetime.UTC) - 8 * DAY).strftime("%Y-%m-%dT%H:%M:%SZ")
        waves = tuple(dataclasses.replace(wave, ended=days) for wave in rollout.waves)
        changed(passed, dataclasses.replace(rollout, waves=waves))
    elif closed == "off":
        passed.variables["rollout_label_days"] = "0"
    elif closed == "limit":
        changed(passed, dataclasses.replace(rollout, settings={"limits": {"live_accuracy_drop_max": None}}))
    elif closed == "part":
        passed.limited = True
    elif closed == "running":
        changed(passed, dataclasses.replace(rollout, state=State.RUNNING))
    else:
        changed(passed, a_rollout(version="1.2.0", began="2100-01-01T00:00:00Z"))
    assert passed.step("open_verdicts")["next"] == "end"
    assert passed.noted["models"] == {}


def test_what_is_wrong_with_the_ledger_is_said_by_the_step_that_needs_it(passed: Stage) -> None:
    passed.variables["rollout_label_days"] = "seven"
    assert passed.step("open_verdicts")["next"] == "end"


def test_a_rollout_that_is_run_again_keeps_what_labels_said(passed: Stage) -> None:
    reconcile(passed, read(2375, 125))
    passed.step("plan")
    assert [analysis.labels for analysis in passed.rollout().labels] == [10_000]
