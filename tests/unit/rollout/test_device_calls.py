# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a run asks its devices: each by its own variables, and nothing of one that has nothing to do."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any, cast

import pytest
from rollout_stage import CLASSES, DONE, Stage
from rollouts import a_rollout

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ArgumentError
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout import ledger
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.checks import Verdict
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.steps import scene
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.steps.calls import device_calls
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.steps.scene import StepError


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    (tmp_path / "scratch").mkdir()
    return Stage(tmp_path)


def calls(stage: Stage, kind: str, host: str, model: str | None = None) -> list[tuple[str, dict[str, Any]]]:
    found = device_calls(kind, cast("scene.Scene", stage), host, model)
    return [(call.module, call.arguments) for call in found]


def begin(stage: Stage, hosts: list[str]) -> None:
    stage.batch, stage.task_host = hosts, hosts[0]
    stage.register(scene.WAVE, dict.fromkeys(hosts, stage.step("begin_wave")))


def test_a_device_swaps_by_its_own_variables(stage: Stage) -> None:
    stage.step("plan")
    begin(stage, stage.waves[0])
    first = stage.batch[0]
    stage.variables.update(rollout_keep="3", rollout_server={"store": "/srv/models", "strategy": "restart"})
    ((module, arguments),) = calls(stage, "swap", first)
    assert module == "model_swap"
    assert (arguments["model"], arguments["version"], arguments["rollout_id"]) == ("digits", "1.1.0", "digits-1.1.0-1")
    assert (arguments["keep"], arguments["trial_seconds"], arguments["retry_seconds"]) == (3, 300, 180)
    assert (arguments["store"], arguments["strategy"], "server" in arguments) == ("/srv/models", "restart", False)
    assert arguments["manifest"]["version"] == "1.1.0"
    assert "state" not in arguments
    ((module, arguments),) = calls(stage, "read", first)
    assert (module, arguments) == (
        "model_info",
        {"model": "digits", "retry_seconds": 180, "probe": True, "store": "/srv/models"},
    )


def test_who_goes_back_is_asked_without_a_look_at_all_others(stage: Stage) -> None:
    """What is taken for one device of very many is no more than for one of four."""
    (stage.ledger).mkdir()
    ledger.write(str(stage.ledger / "digits-1.1.0-1.json"), a_rollout())
    sizes = []
    for more in (0, 20_000):
        stage.hosts = [*sorted(CLASSES), *(f"edge-{number}" for number in range(more))]
        stage.groups = {"all": stage.hosts, "edge": stage.hosts}
        stage.variables.update(model_version="1.1.0")
        assert stage.step("rollback")["next"] == "revert"
        tracemalloc.start()
        ((_module, arguments),) = calls(stage, "revert", "edge-l1")
        sizes.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert (arguments["model"], arguments["version"], arguments["state"]) == ("digits", "1.1.0", "previous")
        assert "rollout_id" not in arguments
    assert sizes[1] < 2 * sizes[0]


def test_a_variable_that_is_wrong_is_named_and_keeps_no_device_from_going_back(stage: Stage) -> None:
    stage.step("plan")
    begin(stage, stage.waves[0])
    stage.variables["rollout_trial_limits"] = {"crashes": 1}
    with pytest.raises(ArgumentError, match="rollout_trial_limits: crashes: no such option"):
        calls(stage, "swap", stage.batch[0])
    assert calls(stage, "read", stage.batch[0])
    failed = {"failed": True, "version": "1.1.0", "live": "1.0.0", "msg": "it crashed", "refused": False}
    stage.wave(1, dict.fromkeys(stage.waves[0], failed))
    ((_module, arguments),) = calls(stage, "revert", stage.run["revert"][0])
    assert (arguments["state"], arguments["version"]) == ("previous", "1.1.0")
    assert "fail" in arguments["reason"]


def test_a_control_is_read_by_its_own_variables_and_not_for_long(stage: Stage) -> None:
    stage.step("plan")
    begin(stage, stage.waves[0])
    (control, *_others) = [host for host in CLASSES if host not in stage.waves[0]]
    stage.host[control]["rollout_server"] = {"store": "/data"}
    # What the task's host has of its own is of no other device.
    stage.host[stage.task_host]["rollout_device_silence_seconds"] = 3
    stage.variables["rollout_device_silence_seconds"] = 3
    ((module, arguments),) = calls(stage, "read_control", control)
    assert (module, arguments) == ("model_info", {"model": "digits", "retry_seconds": 15, "store": "/data"})


@pytest.mark.parametrize(
    ("verdict", "before", "states"),
    [
        (Verdict.PASS, {}, ["shadow"]),
        (Verdict.FAIL, {}, ["shadow", "absent"]),
        (Verdict.FAIL, {"1.1.0": {}}, ["shadow"]),
        (Verdict.INCONCLUSIVE, {}, ["shadow"]),
    ],
)
def test_what_failed_as_a_shadow_is_removed_where_this_brought_it(
    stage: Stage, verdict: Verdict, before: dict[str, Any], states: list[str]
) -> None:
    stage.variables["rollout_shadow_devices"] = 1
    stage.step("plan")
    begin(stage, stage.run["shadow"])
    ((_module, arguments),) = calls(stage, "swap", stage.batch[0])
    assert (arguments["state"], arguments["shadow_seconds"]) == ("shadow", 1200)
    assert "trial_seconds" not in arguments
    ((_module, arguments),) = calls(stage, "read", stage.batch[0])
    assert (arguments["candidate"], "probe" in arguments) == ("1.1.0", False)
    brought = {**DONE, "diff": {"before": {"versions": before}}}
    stage.register(scene.SWAP, dict.fromkeys(stage.batch, brought))
    ledger.write(stage.noted["path"], stage.rollout().with_verdict(0, verdict, (), {}))
    found = calls(stage, "end_shadow", stage.batch[0])
    assert [arguments["state"] for _module, arguments in found] == states
    assert found[0][1]["shadow_seconds"] == 0


def test_a_device_that_does_not_go_back_is_not_called(stage: Stage) -> None:
    stage.step("plan")
    assert calls(stage, "revert", "edge-s1") == []


def test_a_rollback_and_a_reconciliation_call_by_the_ledger(stage: Stage) -> None:
    stage.step("plan")
    for number in (1, 2):
        stage.wave(number, {})
    stage.step("close")
    stage.step("wanted")
    ((module, arguments),) = calls(stage, "reconcile", "edge-s1", "digits")
    assert (module, arguments["state"], arguments["version"]) == ("model_swap", "active", "1.1.0")
    assert (arguments["reason"], arguments["manifest"]["version"]) == ("reconcile", "1.1.0")
    assert calls(stage, "reconcile", "edge-s1", "other") == []
    for strategy, mends in (("restart", True), ("smp", False)):
        stage.variables["rollout_server"] = {"strategy": strategy}
        (call,) = device_calls("reconcile", cast("scene.Scene", stage), "edge-s1", "digits")
        assert call.mends is mends
    stage.variables["rollback_reason"] = "complaints"
    stage.step("rollback")
    ((_module, arguments),) = calls(stage, "revert", "edge-s1")
    assert (arguments["state"], arguments["reason"], "rollout_id" in arguments) == ("previous", "complaints", False)


def test_a_call_of_another_run_says_so(stage: Stage) -> None:
    stage.step("plan")
    for kind in ("reconcile", "read_labels"):
        with pytest.raises(StepError, match="this run is a rollout"):
            calls(stage, kind, "edge-s1", "digits")
    stage.step("rollback")
    with pytest.raises(StepError, match="this run is a rollback"):
        calls(stage, "read_counters", "edge-s1")
