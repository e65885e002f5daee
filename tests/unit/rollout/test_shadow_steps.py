# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The steps of wave 0 on the controller, with results as the modules return them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rollout_stage import CLASSES, Stage

from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.plan import PlannedWave
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.report import view
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.rollout import RolloutError, State
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.steps import scene
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.steps.scene import StepError
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.steps.shadow import shadow_hosts

REFUSED = {"failed": True, "refused": True, "live": "1.0.0", "msg": "no memory"}


def counted(agreed: int, disagreed: int = 0) -> dict[str, Any]:
    times = {"timed": agreed + disagreed, "active": 0.1, "candidate": 0.1}
    shadow = {"agreed": agreed, "disagreed": disagreed, "failed": 0, "dropped": 0, "requests": agreed + disagreed}
    return {"shadow": shadow, "model_seconds": times, "resident_bytes": None}


STARTED = {"changed": True, "variant": "onnx-fp32", "candidate": counted(0)}


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    (tmp_path / "scratch").mkdir()
    return Stage(tmp_path, rollout_shadow_devices=1)


def play(stage: Stage, start: Any = STARTED, found: Any = None) -> dict[str, Any]:
    """Play wave 0 to its verdict, as its tasks do."""
    stage.batch = stage.run["shadow"]
    begun = stage.step("begin_wave")
    if begun["next"] != "swap":
        return begun
    reads = {"model": {"candidate": counted(1000) if found is None else found}}
    stage.register(scene.SWAP, dict.fromkeys(stage.batch, start))
    while True:
        stage.register(scene.SOAKED, dict.fromkeys(stage.batch, stage.step("soak")))
        stage.register(scene.READ, dict.fromkeys(stage.batch, reads))
        judged = stage.step("judge")
        if judged["next"] != "soak_again":
            return judged


def test_each_class_has_its_shadows(stage: Stage) -> None:
    planned = stage.step("plan")
    hosts = stage.noted["shadow"]
    assert sorted(CLASSES[host] for host in hosts) == ["large", "small"]
    assert planned["msg"][1] == f"shadow: 2: {', '.join(hosts)}"
    assert set(hosts) == set(stage.waves[0])
    stage.variables["rollout_shadow_devices"] = 9
    stage.step("plan")
    assert sorted(stage.noted["shadow"]) == sorted(CLASSES)


def test_without_the_option_there_is_no_wave_0(stage: Stage) -> None:
    del stage.variables["rollout_shadow_devices"]
    planned = stage.step("plan")
    assert (stage.noted["shadow"], "shadow" in planned["msg"][1]) == ([], False)


def test_a_release_that_passes_goes_on_and_is_no_shadow_again(stage: Stage) -> None:
    stage.step("plan")
    hosts = stage.noted["shadow"]
    judged = play(stage)
    assert (judged["next"], judged["verdict"], judged["msg"][0]) == ("end_shadow", "pass", "Wave 0 (shadow): pass")
    assert stage.run["shadow"] == []
    assert stage.rollout().reached == 0
    assert stage.rollout().outcomes == {}
    stage.step("plan")
    assert stage.noted["shadow"] == [], "an interrupted rollout goes on behind it"
    for number in (1, 2):
        stage.wave(number, {})
    closed = stage.step("close")
    assert (closed["state"], closed["stats"]["rollout_outcomes"]) == ("passed", {"updated": 4})
    wave, *_others = stage.rollout().waves
    assert (wave.number, wave.outcomes) == (0, dict.fromkeys(hosts, "shadowed"))
    assert stage.rollout().progress()["verdicts"] == ["pass", "pass"]
    page = view.render(stage.rollout().to_dict())
    assert "2 of 2" in page
    assert "Wave 0, shadow" in page


def test_a_release_that_disagrees_stops_and_nothing_is_reverted(stage: Stage) -> None:
    stage.step("plan")
    judged = play(stage, found=counted(500, 500))
    assert (judged["next"], judged["verdict"]) == ("end_shadow", "fail")
    assert stage.run["revert"] == []
    stage.batch = stage.waves[0]
    assert stage.step("begin_wave")["next"] == "end"
    closed = stage.step("close")
    assert (closed["state"], closed["stats"]["rollout_verdict"]) == ("failed", "fail")
    assert closed["problem"].startswith(
        "digits-1.1.0-1: failed as a shadow; no client saw it. fail: shadow disagreement"
    )
    assert closed["stats"]["rollout_outcomes"] == {"not started": 4}
    with pytest.raises(RolloutError, match="was stopped"):
        stage.step("plan")


def test_a_device_that_refuses_stops_it(stage: Stage) -> None:
    stage.step("plan")
    assert play(stage, start=REFUSED)["verdict"] == "fail"
    assert stage.step("close")["state"] == "failed"


def test_a_wave_0_without_requests_soaks_on_and_pauses(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)
    stage.variables.update(rollout_soak_seconds=60, rollout_soak_seconds_max=120)
    stage.step("plan")
    judged = play(stage, found=counted(0))
    assert (judged["next"], judged["verdict"], waits) == ("end_shadow", "inconclusive", [60, 60])
    closed = stage.step("close")
    assert closed["state"] == "paused"
    assert "paused; nothing was reverted" in closed["problem"]
    stage.step("plan")
    assert len(stage.noted["shadow"]) == 2, "it begins anew"


def test_the_server_ends_a_shadow_after_the_longest_soak(stage: Stage) -> None:
    stage.variables.update(rollout_soak_seconds=60, rollout_soak_seconds_max=300)
    stage.step("plan")
    stage.batch = stage.noted["shadow"]
    assert stage.step("begin_wave")["call"]["shadow_seconds"] == 1260


def test_outside_the_window_no_shadow_begins(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "ansible_collections.edgeml.fleet.plugins.module_utils._common.window.is_open", lambda _windows, _now: False
    )
    stage.variables["rollout_window"] = ["Mon 01:00-02:00"]
    stage.step("plan")
    assert play(stage)["next"] == "end"
    assert stage.rollout().waves == ()
    closed = stage.step("close")
    assert (closed["state"], closed["why"]) == ("paused", "outside the maintenance window (Mon 01:00-02:00)")


def test_a_wave_0_that_was_not_judged_pauses(stage: Stage) -> None:
    stage.step("plan")
    stage.batch = stage.noted["shadow"]
    stage.step("begin_wave")
    stage.batch = stage.waves[1]
    assert stage.step("begin_wave")["next"] == "end"
    closed = stage.step("close")
    assert (closed["state"], closed["why"]) == ("paused", "wave 0 (shadow) was not judged")
    assert stage.rollout().state is State.PAUSED


def test_devices_that_pull_are_passed_over_and_a_class_of_them_is_refused() -> None:
    waves = [PlannedWave(1, "25%", ("edge-s1", "edge-l1")), PlannedWave(2, "100%", ("edge-s2", "edge-l2"))]
    assert shadow_hosts(1, CLASSES, waves, ("edge-s1",)) == ("edge-s2", "edge-l1")
    with pytest.raises(StepError, match="expected a device of the class small that is reached by push"):
        shadow_hosts(1, CLASSES, waves, ("edge-s1", "edge-s2"))
    assert shadow_hosts(0, CLASSES, waves, ("edge-s1", "edge-s2")) == ()
